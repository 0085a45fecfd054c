use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use proptest::prelude::*;
use tracing::Level;

use super::key::{self, KEYS, Key};
use super::*;
use crate::layout::paths::DEFAULT_SETTINGS as TEXT;

/// A home whose settings file holds these bytes.
fn home_with(content: &[u8]) -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::at(directory.path());
    std::fs::create_dir(directory.path().join("config")).unwrap();
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(home.settings_file()).unwrap();
    file.write_all(content).unwrap();
    (directory, home)
}

fn load(content: &str, flags: &[&str], variables: &[(&str, &str)]) -> Result<Loaded> {
    let (_directory, home) = home_with(content.as_bytes());
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    Settings::load(&home, &Overrides::parse(&flags)?, &Environment::from_pairs(variables.iter().copied()))
}

/// What is said about settings that must not load.
fn complaint(content: &str, flags: &[&str], variables: &[(&str, &str)]) -> String {
    load(content, flags, variables).unwrap_err().to_string()
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn without_a_file_the_defaults_count() {
    let home = Home::at("/no/such/home");
    let loaded = Settings::load(&home, &Overrides::default(), &Environment::default()).unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.poll, settings.heartbeat_max), (seconds(15), seconds(7200)));
    assert_eq!(settings.stuck_after(), seconds(60));
    assert_eq!((settings.journal_max, settings.context_max), (256 << 20, 4096));
    assert_eq!(settings.log_level, Level::INFO);
    assert_eq!(settings.busy_regex, r"esc (to )?interrupt|Working\.\.\.");
    assert!(settings.rules.is_empty() && settings.notify.is_empty() && settings.pass.is_empty());
    assert_eq!(settings.runtime_dir, None);
    assert_eq!(loaded.explicit_flags(), Vec::<String>::new());
    loaded.compile().unwrap();
}

#[test]
fn the_stronger_layer_wins_and_is_named() {
    let file = "poll = \"4s\"\nsignal_grace = \"3s\"\ncheck_timeout = \"2s\"\n";
    let variables = [("FM_POLL", "5"), ("FM_SIGNAL_GRACE", "0.2"), ("FM_HEARTBEAT", "")];
    let loaded = load(file, &["poll=6"], &variables).unwrap();
    assert_eq!(loaded.settings.poll, seconds(6));
    assert_eq!(loaded.settings.signal_grace, Duration::from_millis(200));
    assert_eq!(loaded.settings.check_timeout, seconds(2));
    assert_eq!(loaded.origin("poll"), Origin::Flag("poll"));
    assert_eq!(loaded.origin("signal_grace"), Origin::Variable("FM_SIGNAL_GRACE"));
    assert!(loaded.origin("check_timeout").to_string().ends_with("config/fm-watch.toml:3"));
    assert_eq!(loaded.origin("heartbeat"), Origin::Default);
    assert_eq!(loaded.origin("stuck_after"), Origin::Derived("poll"));
}

#[test]
fn every_key_is_in_the_default_file_in_this_order() {
    let place = |key: &Key| {
        let (section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        let from = if section.is_empty() { 0 } else { TEXT.find(&format!("\n[{section}]\n")).unwrap() };
        let assignment = if key.kind.is_optional() { format!("\n# {name} = ") } else { format!("\n{name} = ") };
        from + TEXT[from..].find(&assignment).unwrap_or_else(|| panic!("{name} is missing"))
    };
    let places: Vec<usize> = KEYS.iter().map(place).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn the_plain_reading_of_the_defaults_is_the_reading_as_toml() {
    let plain = Loaded::of_defaults().unwrap();
    let as_toml = load(TEXT, &[], &[]).unwrap();
    assert_eq!(as_toml.settings, plain.settings);
    let is_optional = |entry: &&Entry| key::find(entry.key).unwrap().kind.is_optional();
    for entry in as_toml.entries().iter().filter(|entry| !is_optional(entry)) {
        assert!(matches!(entry.origin, Origin::File { .. }), "{}", entry.key);
    }
}

#[test]
fn the_examples_in_the_default_file_are_valid() {
    let uncommented: String = TEXT
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')))
        .fold(String::new(), |text, line| text + line + "\n");
    let loaded = load(&uncommented, &[], &[]).unwrap();
    assert_eq!((loaded.settings.rules.len(), loaded.settings.notify.len()), (1, 1), "{uncommented}");
    assert_eq!(loaded.settings.daemons.len(), 1, "{uncommented}");
    assert_eq!(loaded.settings.notify[0].timeout, Some(loaded.settings.notify_timeout));
    assert_eq!(loaded.settings.stuck_after(), load("", &[], &[]).unwrap().settings.stuck_after());
    loaded.compile().unwrap();
}

#[test]
fn the_variable_of_a_key_is_named_beside_it() {
    for key in KEYS.iter().filter(|key| key.variable.is_some()) {
        let variable = key.variable.unwrap();
        // In its table, a key has the last part of its name.
        let name = key.name.rsplit('.').next().unwrap();
        let before = TEXT.split(&format!("{name} = ")).next().unwrap();
        let comment = before.rsplit("\n\n").next().unwrap();
        assert!(comment.contains(&format!("{variable}.\n")), "{variable} is not in:\n{comment}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
    let text = complaint("# first\n\npol = \"1s\"\n", &[], &[]);
    assert!(text.contains("fm-watch.toml:3: unknown key `pol`") && text.contains("`poll`"), "{text}");
    let text = complaint("[environment]\npoll = \"1s\"\n", &[], &[]);
    assert!(text.contains(":2: unknown key `environment.poll`") && text.contains("above the first"), "{text}");
    let text = complaint("[[rule]]\ndelivr = \"now\"\n", &[], &[]);
    assert!(text.contains(":2: unknown key `rule.delivr`") && text.contains("`deliver`"), "{text}");
    let text = complaint("\"a\\u001b[31m\" = 1\n", &[], &[]);
    assert!(text.contains("a\\033[31m") && !text.contains('\u{1b}'), "{text}");
    let text = complaint("", &["pol=1"], &[]);
    assert!(text.contains("--set pol=1") && text.contains("`poll`"), "{text}");
}

#[test]
fn a_time_in_a_file_needs_a_unit() {
    for (content, advice) in [
        ("poll = 15", "write \"15s\""),
        ("poll = 0.5", "write \"0.5s\""),
        ("poll = \"15\"", "write \"15s\""),
        ("log_max = 4096", "write \"4096B\""),
        ("poll = true", "boolean"),
        ("poll = \"soon\"", "no duration"),
        ("checks_at_once = \"4\"", "string"),
        ("log_level = \"loud\"", "\"trace\""),
        ("runtime_dir = \"run\"", "absolute"),
        ("environment = 3", "[environment]"),
        ("rule = 3", "[[rule]]"),
        ("notify = [3]", "[[notify]]"),
        ("[poll]", "table"),
    ] {
        let text = complaint(content, &[], &[]);
        assert!(text.contains("fm-watch.toml:1: ") && text.contains(advice), "{content}: {text}");
    }
}

#[test]
fn values_out_of_bounds_name_their_origin_and_what_is_allowed() {
    for value in ["0", "0.001", "86401", "99999999999999999999", "1e400", "NaN", "-1", "15 x", " "] {
        let text = complaint("", &[], &[("FM_POLL", value)]);
        assert!(text.starts_with("FM_POLL: poll: ") && text.contains("from 10ms to 1day"), "{value}: {text}");
    }
    for flag in ["checks_at_once=0", "checks_at_once=257", "journal_max=1", "signal_grace=2days", "busy_regex="] {
        let text = complaint("", &[flag], &[]);
        assert!(text.starts_with("--set ") && text.contains("allowed: "), "{flag}: {text}");
    }
    load("", &["signal_grace=0"], &[("FM_HEARTBEAT", "999999"), ("FM_CHECK_INTERVAL", "999999")]).unwrap();
}

#[test]
fn a_variable_that_is_not_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    let environment = Environment::from_pairs([("FM_POLL", value)]);
    let error = Settings::load(&Home::at("/no/such"), &Overrides::default(), &environment).unwrap_err();
    assert!(error.to_string().starts_with("FM_POLL: the value is not UTF-8"), "{error}");
}

#[test]
fn the_cap_of_the_heartbeat_is_never_below_it() {
    let loaded = load("heartbeat = \"3h\"", &[], &[]).unwrap();
    assert_eq!(loaded.settings.heartbeat_max, seconds(3 * 3600));
    assert_eq!(loaded.origin("heartbeat_max"), Origin::Derived("heartbeat"));
    let text = complaint("heartbeat = \"3h\"", &[], &[("FM_HEARTBEAT_MAX", "60")]);
    assert!(text.starts_with("FM_HEARTBEAT_MAX: ") && text.contains("fm-watch.toml:1"), "{text}");
}

#[test]
fn broken_files_are_errors_that_name_the_line() {
    assert!(complaint("poll = \"1s\"\npoll = \"2s\"\n", &[], &[]).contains("fm-watch.toml:2: not TOML: duplicate key"));
    assert!(complaint("\n\npoll = \n", &[], &[]).contains("fm-watch.toml:3: not TOML"));
    let (_directory, home) = home_with(b"poll = \"1s\"\n# \xff\n");
    let error = Settings::load(&home, &Overrides::default(), &Environment::default()).unwrap_err();
    assert!(error.to_string().contains("fm-watch.toml:2: these bytes are not UTF-8"), "{error}");
}

#[test]
fn what_is_no_moderate_regular_file_is_refused_without_hanging() {
    let refusal = |make: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("config")).unwrap();
        let home = Home::at(directory.path());
        make(&home.settings_file());
        Settings::load(&home, &Overrides::default(), &Environment::default()).unwrap_err().to_string()
    };
    assert!(refusal(&|path| std::fs::create_dir(path).unwrap()).contains("it is a directory"));
    let fifo = |path: &Path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    };
    assert!(refusal(&fifo).contains("not a regular file"));
    assert!(refusal(&|path| std::os::unix::fs::symlink("/no/such/file", path).unwrap()).contains("cannot open"));
    let (_directory, home) = home_with(&vec![b'#'; (1 << 20) + 1]);
    let error = Settings::load(&home, &Overrides::default(), &Environment::default()).unwrap_err();
    assert!(error.to_string().contains("it has 1048577 bytes"), "{error}");
}

#[test]
fn a_plain_file_named_config_is_no_settings_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = std::fs::OpenOptions::new();
    drop(options.write(true).create_new(true).open(directory.path().join("config")).unwrap());
    Settings::load(&Home::at(directory.path()), &Overrides::default(), &Environment::default()).unwrap();
}

#[test]
fn tables_are_read_whole_and_strictly() {
    let loaded = load(
        "[environment]\npass = ['GH_TOKEN']\n[[rule]]\nkind = 'check'\ndeliver = 'never'\n\
         [[notify]]\nexec = ['/bin/x', 'y']\ntimeout = '3s'\nkinds = ['check']\n[[notify]]\nexec = ['/bin/z']\n",
        &["notify_timeout=4"],
        &[],
    )
    .unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.pass, ["GH_TOKEN"]);
    let times: Vec<_> = settings.notify.iter().map(|notify| settings.timeout_of(notify)).collect();
    assert_eq!(times, [seconds(3), seconds(4)]);
    assert_eq!(settings.notify[0].program(), Path::new("/bin/x"));
    for (content, expected) in [
        ("[[rule]]\nkind = 'x'\n", ":1: this [[rule]] has no `deliver`"),
        ("[[rule]]\ndeliver = 'later'\n", ":2: rule.deliver"),
        ("[[notify]]\ntimeout = '1s'\n", "has no `exec`"),
        ("[[notify]]\nexec = []\n", ":2: notify.exec: the list is empty"),
        ("[[notify]]\nexec = ['tell-me']\n", "not an absolute path"),
        ("[[notify]]\nexec = ['/x', 3]\n", "integer"),
        ("[[notify]]\nexec = ['/x']\ntimeout = 3\n", ":3: notify.timeout: 3 has no unit"),
        ("[[notify]]\nexec = ['/x']\nkinds = ['sginal']\n", "no kind of wake"),
        ("[environment]\npass = ['FM_HOME']\n", ":2: environment.pass"),
        ("[environment]\npass = ['NOTIFY_SOCKET']\n", ":2: environment.pass"),
        ("[environment]\npass = ['A=B']\n", ":2: environment.pass"),
        ("[rule]\ndeliver = 'now'\n", "[[rule]]"),
    ] {
        let text = complaint(content, &[], &[]);
        assert!(text.contains(expected), "{content}: {text}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    use crate::journal::record::{Delivery, Kind};
    let rules =
        "[[rule]]\nkind = '^check$'\ntext = 'ok'\ndeliver = 'never'\n[[rule]]\nkind = 'check'\ndeliver = 'batch'\n";
    let patterns = load(rules, &[], &[]).unwrap().compile().unwrap();
    assert_eq!(patterns.delivery(&Kind::Check, "k", "all ok"), Delivery::Never);
    assert_eq!(patterns.delivery(&Kind::Check, "k", "bad"), Delivery::Batch);
    assert_eq!(patterns.delivery(&Kind::Signal, "k", "ok"), Delivery::Now);
    assert!(patterns.busy.is_match("(esc to interrupt)"));
}

/// Loads what `explicit_flags` of another process says.
fn passed_on(loaded: &Loaded) -> Loaded {
    let flags = loaded.explicit_flags();
    let values: Vec<&str> = flags.chunks(2).map(|pair| pair[1].as_str()).collect();
    assert!(flags.chunks(2).all(|pair| pair[0] == "--set"));
    load("", &values, &[]).unwrap()
}

#[test]
fn values_of_the_file_are_not_passed_on() {
    let loaded = load("poll = \"4s\"\nheartbeat = \"1h\"\n", &["heartbeat=2h"], &[("FM_GUARD_GRACE", "300")]).unwrap();
    assert_eq!(loaded.explicit_flags(), ["--set", "heartbeat=2h", "--set", "stuck_after=5m"]);
}

proptest! {
    #[test]
    fn what_is_passed_on_is_exactly_what_counts(
        poll in 10_000_000u64..86_400_000_000_000, size in 4096u64..1 << 30, count in 1usize..=256,
        pattern in "[^\0]{1,20}", names in prop::collection::vec("[A-Z_]{1,8}", 1..4),
    ) {
        let poll = Duration::from_nanos(poll);
        let flags = [
            format!("poll={}.{:09}", poll.as_secs(), poll.subsec_nanos()),
            format!("log_max={size}"),
            format!("checks_at_once={count}"),
            format!("busy_regex={pattern}"),
            format!("environment.pass={}", names.join(",")),
            "runtime_dir=/run/a=b c".to_owned(),
            "log_level=DEBUG".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let loaded = load("", &flags, &[]).unwrap();
        prop_assert_eq!(loaded.settings.poll, poll);
        prop_assert_eq!(&passed_on(&loaded), &loaded);
    }

    #[test]
    fn no_file_makes_loading_panic(content in "(poll|rule|notify|x|=|\\[|\\]|\"|'|\n| |\\.|[0-9]|s|é){0,40}") {
        let mut loaded = Loaded::of_defaults().unwrap();
        let verdict = file::apply(&content, Path::new("/f"), &mut loaded);
        if let Err(error) = verdict {
            prop_assert!(error.to_string().starts_with("/f:"), "{}", error);
        }
    }
}

//! `hooks`: nothing but our own entries is ever touched, and what is taken out again leaves the very bytes of before.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fm_watch::base::environment::Environment;
use fm_watch::hooks::harness::Harness;
use fm_watch::hooks::install;
use fm_watch::system::program::Program;
use fm_watch::hooks::install::target::{Scope, Target};

use crate::support::home::{PROGRAM, finish};
use crate::support::rigged::Rigged;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, kill_at, without};
use crate::support::processes::has_ended;
use crate::support::{Answer, SOON, Skip, TestHome, requires, requires_root, wait_until_true};
#[cfg(feature = "sync-points")]
use crate::support::Background;

cases! {
    installed_twice_and_uninstalled_every_file_is_what_it_was,
    a_link_stays_and_its_target_is_edited,
    a_file_that_does_not_parse_is_refused_and_not_touched,
    what_must_not_be_replaced_is_refused_and_not_touched,
    a_link_to_nothing_is_refused,
    what_was_made_for_a_file_goes_with_it_and_nothing_else_does,
    the_backup_is_named_and_private,
    mode_and_group_of_a_file_stay,
    a_file_of_somebody_else_is_refused_and_not_touched,
    a_full_disk_changes_nothing,
    wherever_an_edit_dies_the_file_is_whole,
    two_edits_at_once_leave_one_whole_file,
    an_entry_names_the_program_by_the_rule,
    a_guarded_entry_does_no_harm_where_the_program_cannot_run,
    print_writes_nothing,
    a_harness_without_hooks_of_a_project_is_a_usage_error,
    check_says_what_is_missing_and_what_runs,
    check_knows_what_codex_trusts,
    check_sees_entries_that_run_twice,
    check_sees_a_file_that_turns_its_hooks_off,
    check_knows_that_gemini_runs_a_command_once_and_lets_people_turn_it_off,
    check_sees_a_shell_that_talks,
    check_sees_what_somebody_made_of_an_entry,
    check_runs_what_a_plugin_runs,
    check_sees_a_waiter_that_would_hold_the_session,
    a_plugin_that_somebody_edited_is_kept_beside,
    the_plugin_of_opencode_asks_and_does_what_it_is_told,
    the_extension_of_pi_asks_and_does_what_it_is_told,
    whatever_the_program_does_no_plugin_throws_hangs_or_leaves_a_process,
    whatever_the_host_does_no_plugin_throws,
    a_turn_of_opencode_that_was_stopped_is_not_answered,
    an_older_pi_that_does_not_say_that_it_has_settled_is_asked_too,
    #[cfg(feature = "sync-points")]
    killed_before_the_rename_the_old_content_is_there,
    #[cfg(feature = "sync-points")]
    what_a_harness_writes_meanwhile_is_kept,
    #[cfg(feature = "sync-points")]
    without_the_last_look_what_a_harness_writes_meanwhile_is_lost,
}

/// The harnesses, with their file under the user's home directory.
const HARNESSES: [(&str, &str); 8] = [
    ("claude", ".claude/settings.json"),
    ("codex", ".codex/hooks.json"),
    ("cursor", ".cursor/hooks.json"),
    ("gemini", ".gemini/settings.json"),
    ("grok", ".grok/hooks/fm-watch.json"),
    ("kimi", ".kimi-code/config.toml"),
    ("opencode", "config/opencode/plugins/fm-watch.js"),
    ("pi", ".pi/agent/extensions/fm-watch.ts"),
];

const JSON: [&str; 8] = [
    "",
    "\n",
    "{}",
    "{\"model\": \"x\"}",
    "{\r\n\t// mine\r\n\t\"a\": [1, 2,], /* odd */\r\n}\r\n",
    "{\n   \"a\" : 1 // no comma\n}",
    "\u{feff}{ \"hooks\": {} }",
    "{\n  \"hooks\": {\n    \"Stop\": [\n      {\"hooks\": [{\"type\": \"command\", \"command\": \"mine\"}]} // mine\n    ]\n  }\n}\n",
];

const TOML: [&str; 6] = [
    "",
    "# only a comment",
    "model = \"x\"",
    "a = 1\r\n\r\n[t] # odd\r\n   b = [1,\r\n2]\r\n",
    "\u{feff}a = 1\n",
    "[[hooks]]\nevent = \"Stop\"\ncommand = \"mine\"\n[other]\nx = 1",
];

fn texts(harness: &str) -> &'static [&'static str] {
    match harness {
        "kimi" => &TOML,
        "opencode" | "pi" => &[],
        _ => &JSON,
    }
}

fn user(home: &TestHome, path: &str) -> PathBuf {
    home.scratch().join("user").join(path)
}

#[track_caller]
fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn command(home: &TestHome, arguments: &[&str]) -> Command {
    let mut command = home.bare(*PROGRAM);
    command.arg("hooks").args(arguments);
    command
}

#[track_caller]
fn hooks(home: &TestHome, arguments: &[&str]) -> Answer {
    finish(command(home, arguments))
}

#[track_caller]
fn says(home: &TestHome, arguments: &[&str], what: &str) {
    let answer = hooks(home, arguments).expect_code(0);
    assert!(answer.stdout.contains(&format!(" {what} ")), "{answer:?}");
}

fn backup(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.before-fm-watch", path.display()))
}

fn installed_twice_and_uninstalled_every_file_is_what_it_was() {
    let home = TestHome::plain();
    for (harness, path) in HARNESSES {
        let path = user(&home, path);
        says(&home, &["install", harness], "written");
        let made = fs::read(&path).unwrap();
        says(&home, &["install", harness], "unchanged");
        assert_eq!(fs::read(&path).unwrap(), made);
        says(&home, &["uninstall", harness], "removed");
        assert!(!path.exists() && !backup(&path).exists());
        says(&home, &["uninstall", harness], "unchanged");
        for text in texts(harness) {
            write(&path, text);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            says(&home, &["install", harness], "written");
            let after = fs::read_to_string(&path).unwrap();
            assert!(after.contains(&format!("hook --harness {harness} --event turn-end")), "{after}");
            assert_eq!(fs::read_to_string(backup(&path)).unwrap(), *text);
            says(&home, &["install", harness, "--user"], "unchanged");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
            says(&home, &["uninstall", harness], "written");
            assert_eq!(fs::read_to_string(&path).unwrap(), *text, "{harness}");
            assert_eq!(fs::read_to_string(backup(&path)).unwrap(), after);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        }
        let rest = fs::read_dir(path.parent().unwrap()).into_iter().flatten();
        let rest: Vec<_> = rest.map(|entry| entry.unwrap().file_name()).collect();
        assert!(rest.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{rest:?}");
    }
}

fn a_link_stays_and_its_target_is_edited() {
    let home = TestHome::plain();
    let (real, link) = (home.scratch().join("dotfiles/claude.json"), user(&home, ".claude/settings.json"));
    write(&real, "{ }");
    fs::create_dir(link.parent().unwrap()).unwrap();
    symlink(&real, &link).unwrap();
    says(&home, &["install", "claude"], "written");
    assert_eq!(fs::read_link(&link).unwrap(), real);
    assert!(fs::read_to_string(&real).unwrap().contains("fm-watch"));
    says(&home, &["uninstall", "claude"], "written");
    assert_eq!((fs::read_link(&link).unwrap(), fs::read_to_string(&real).unwrap()), (real, "{ }".to_owned()));
}

/// What of a file must not change.
#[track_caller]
fn state_of(path: &Path) -> (Vec<u8>, u64, i64, i64) {
    let facts = fs::metadata(path).unwrap();
    (fs::read(path).unwrap(), facts.ino(), facts.mtime_nsec(), facts.ctime_nsec())
}

#[track_caller]
fn is_refused(home: &TestHome, harness: &str, path: &Path, why: &str) {
    let before = state_of(path);
    let answer = hooks(home, &["install", harness]).expect_code(1);
    assert!(answer.stderr.contains(path.file_name().unwrap().to_str().unwrap()), "{answer:?}");
    assert!(answer.stderr.contains(why), "{answer:?}");
    assert_eq!(state_of(path), before);
    assert!(!backup(path).exists());
}

fn a_file_that_does_not_parse_is_refused_and_not_touched() {
    let home = TestHome::plain();
    for (harness, path) in HARNESSES {
        let path = user(&home, path);
        write(&path, "{ \"a\": ");
        let why = if ["opencode", "pi"].contains(&harness) { "not a file that fm-watch" } else { "does not parse" };
        is_refused(&home, harness, &path, why);
        fs::write(&path, b"\xff\xfe{}").unwrap();
        is_refused(&home, harness, &path, "UTF-8");
    }
}

fn what_must_not_be_replaced_is_refused_and_not_touched() {
    let home = TestHome::plain();
    let path = user(&home, ".claude/settings.json");
    write(&path, "{}");
    fs::hard_link(&path, home.scratch().join("other")).unwrap();
    is_refused(&home, "claude", &path, "2 names");
    fs::remove_file(&path).unwrap();
    // Even by the administrator, who may write to it.
    write(&path, "{}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    is_refused(&home, "claude", &path, "may not be written");
    fs::remove_file(&path).unwrap();
    write(&path, &format!("{{\"a\": \"{}\"}}", "x".repeat(5 << 20)));
    is_refused(&home, "claude", &path, "at most 4194304 are read");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let answer = hooks(&home, &["install", "claude"]).expect_code(1);
    assert!(path.is_dir() && answer.stderr.contains("not a regular file"), "{answer:?}");
    fs::remove_dir(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let answer = hooks(&home, &["install", "claude"]).expect_code(1);
    assert!(answer.stderr.contains("not a regular file"), "{answer:?}");
    let foreign = user(&home, ".grok");
    fs::write(&foreign, "a file where a directory should be").unwrap();
    hooks(&home, &["install", "grok"]).expect_code(1);
    assert!(foreign.is_file());
}

fn a_link_to_nothing_is_refused() {
    let home = TestHome::plain();
    let link = user(&home, ".claude/settings.json");
    fs::create_dir(link.parent().unwrap()).unwrap();
    symlink(home.scratch().join("nothing"), &link).unwrap();
    let answer = hooks(&home, &["install", "claude"]).expect_code(1);
    assert!(answer.stderr.contains("follow the link"), "{answer:?}");
    assert!(!home.scratch().join("nothing").exists() && link.is_symlink());
    says(&home, &["uninstall", "claude"], "unchanged");
    assert!(link.is_symlink());
    fs::remove_file(&link).unwrap();
    symlink(&link, &link).unwrap();
    hooks(&home, &["install", "claude"]).expect_code(1);
    assert!(link.is_symlink());
}

fn what_was_made_for_a_file_goes_with_it_and_nothing_else_does() {
    let home = TestHome::plain();
    let root = home.scratch().join("user");
    let names = || crate::support::contest::names_in(&root);
    for (harness, path) in HARNESSES {
        says(&home, &["install", harness], "written");
        says(&home, &["uninstall", harness], "removed");
        // `$XDG_CONFIG_HOME` is everybody's.
        let left = if harness == "opencode" { vec!["config".to_owned()] } else { Vec::new() };
        assert_eq!(names(), left, "{harness}");
        let _made = fs::remove_dir(root.join("config"));
        // What others have there stays, and so does a directory that was not made like ours.
        let path = user(&home, path);
        let directory = path.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        says(&home, &["install", harness], "written");
        says(&home, &["uninstall", harness], "removed");
        assert!(directory.is_dir());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        write(&directory.join("mine"), "");
        says(&home, &["install", harness], "written");
        says(&home, &["uninstall", harness], "removed");
        assert_eq!(crate::support::contest::names_in(directory), ["mine"]);
        fs::remove_dir_all(root.join(path.strip_prefix(&root).unwrap().iter().next().unwrap())).unwrap();
    }
    // A file of ours that went through a release in another place leaves no backup either.
    let directory = installed_by_name(&home, "pi", QUIET);
    says(&home, &["install", "pi"], "written");
    let path = user(&home, ".pi/agent/extensions/fm-watch.ts");
    assert!(backup(&path).exists() && directory.is_dir());
    says(&home, &["uninstall", "pi"], "removed");
    assert!(names().is_empty(), "{:?}", names());
    // Somebody moved our file to where they keep such files, and put a link in its place.
    says(&home, &["install", "gemini"], "written");
    let link = user(&home, ".gemini/settings.json");
    fs::rename(&link, home.scratch().join("kept.json")).unwrap();
    symlink(home.scratch().join("kept.json"), &link).unwrap();
    says(&home, &["uninstall", "gemini"], "removed");
    assert!(names().is_empty() && !home.scratch().join("kept.json").exists());
}

fn the_backup_is_named_and_private() {
    let home = TestHome::plain();
    let path = user(&home, ".claude/settings.json");
    write(&path, "{\"secret\": 1}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let backup = backup(&path);
    let answer = hooks(&home, &["install", "claude"]).expect_code(0);
    assert!(answer.stderr.contains(&format!("its content of before is in {}", backup.display())), "{answer:?}");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o7777, 0o600);
    let answer = hooks(&home, &["--json", "uninstall", "claude"]).expect_code(0);
    assert_eq!(answer.json()["backup"], backup.to_str().unwrap());
    let answer = hooks(&home, &["--json", "uninstall", "claude"]).expect_code(0);
    assert_eq!(answer.json()["backup"], serde_json::Value::Null);
    assert!(!answer.stderr.contains("is in"), "{answer:?}");
    fs::remove_file(&backup).unwrap();
    fs::create_dir(&backup).unwrap();
    let before = state_of(&path);
    let answer = hooks(&home, &["install", "claude"]).expect_code(1);
    assert!(answer.stderr.contains("before-fm-watch"), "{answer:?}");
    assert_eq!(state_of(&path), before);
}

fn mode_and_group_of_a_file_stay() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::plain();
    let path = user(&home, ".codex/hooks.json");
    write(&path, "{}");
    std::os::unix::fs::chown(&path, None, Some(12345)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2640)).unwrap();
    for verb in ["install", "uninstall"] {
        says(&home, &[verb, "codex"], "written");
        let facts = fs::metadata(&path).unwrap();
        assert_eq!((facts.gid(), facts.mode() & 0o7777), (12345, 0o2640));
    }
    Ok(())
}

fn a_file_of_somebody_else_is_refused_and_not_touched() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::plain();
    let path = user(&home, ".codex/hooks.json");
    write(&path, "{}");
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    is_refused(&home, "codex", &path, "belongs to uid 12345");
    Ok(())
}

/// A file with settings in it, where a harness looks for it.
fn settings_of(home: &TestHome) -> (Target, PathBuf) {
    let environment = Environment::from_pairs([("HOME", home.scratch().join("user"))]);
    let place = Target::of(Harness::Claude, Scope::User, &environment, home.scratch()).unwrap();
    write(&place.path, "{ /* mine */ }");
    let path = place.path.clone();
    (place, path)
}

fn a_full_disk_changes_nothing() {
    let home = TestHome::plain();
    let (place, path) = settings_of(&home);
    let before = state_of(&path);
    for (call, error) in [("append", 28), ("append", 122), ("sync_all", 28), ("rename", 28), ("set_mode", 1)] {
        let world = Rigged::new().refusing(call, error);
        let refused = install::install(&world, &place, &Program::OnPath).unwrap_err().to_string();
        assert!(refused.contains("settings.json") && refused.contains("nothing was changed"), "{refused}");
        assert_eq!(state_of(&path), before);
        assert_eq!(crate::support::contest::names_in(path.parent().unwrap()), ["settings.json"], "{call}");
    }
}

fn wherever_an_edit_dies_the_file_is_whole() {
    let home = TestHome::plain();
    let (place, path) = settings_of(&home);
    let before = fs::read(&path).unwrap();
    install::install(&Rigged::new(), &place, &Program::OnPath).unwrap();
    let after = fs::read(&path).unwrap();
    let (mut old, mut new) = (0, 0);
    for calls in 0.. {
        fs::write(&path, &before).unwrap();
        let done = install::install(&Rigged::living_for(calls), &place, &Program::OnPath);
        let now = fs::read(&path).unwrap();
        let says_unchanged = done.as_ref().is_err_and(|error| error.to_string().contains("nothing was changed"));
        assert!(!says_unchanged || now == before, "{done:?}");
        old += usize::from(now == before);
        new += usize::from(now == after);
        assert!(now == before || now == after, "after {calls} calls: {}", String::from_utf8_lossy(&now));
        if done.is_ok() {
            break;
        }
    }
    assert!(old > 5 && new > 0, "{old} {new}");
    // And whatever such deaths left, the next edit gets through.
    fs::write(&path, &before).unwrap();
    install::install(&Rigged::new(), &place, &Program::OnPath).unwrap();
    install::uninstall(&Rigged::new(), &place).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

fn two_edits_at_once_leave_one_whole_file() {
    let home = TestHome::plain();
    let (place, path) = settings_of(&home);
    let (before, other) = (fs::read(&path).unwrap(), place.clone());
    // Another one gets through between the reading and the last look.
    let rival = move || drop(install::install(&Rigged::new(), &other, &Program::OnPath).unwrap());
    let late = install::install(&Rigged::new().at("HooksBackedUp", rival), &place, &Program::OnPath);
    let refused = late.unwrap_err().to_string();
    assert!(refused.contains("just changed it"), "{refused}");
    install::uninstall(&Rigged::new(), &place).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// A directory of programs in which `fm-watch` is something of the test's own.
fn programs(home: &TestHome, script: &str) -> PathBuf {
    let directory = home.scratch().join("bin");
    write(&directory.join("fm-watch"), script);
    fs::set_permissions(directory.join("fm-watch"), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn on_path(command: &mut Command, directory: &Path) {
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
}

fn an_entry_names_the_program_by_the_rule() {
    let home = TestHome::plain();
    let own = fs::canonicalize(*PROGRAM).unwrap();
    let named = format!("\"{} hook --harness codex --event turn-end\"", own.display());
    assert!(hooks(&home, &["print", "codex"]).expect_code(0).stdout.contains(&named));
    let directory = home.scratch().join("bin");
    fs::create_dir(&directory).unwrap();
    symlink(&own, directory.join("fm-watch")).unwrap();
    let mut print = command(&home, &["print", "codex"]);
    on_path(&mut print, &directory);
    assert!(finish(print).expect_code(0).stdout.contains("\"fm-watch hook --harness codex --event turn-end\""));
}

fn a_guarded_entry_does_no_harm_where_the_program_cannot_run() {
    let home = TestHome::plain();
    let program = home.scratch().join("bin/fm-watch");
    let of_program = Program::At(program.clone());
    let wait = install::entry::entries(Harness::Claude, &of_program).pop().unwrap().command;
    let gemini = install::entry::entries(Harness::Gemini, &of_program).pop().unwrap().command;
    let codes = || {
        [&wait, &gemini].map(|entry| {
            let mut shell = home.bare("/bin/sh");
            shell.arg("-c").arg(entry);
            finish(shell).code
        })
    };
    assert_eq!(codes(), [Some(0); 2], "it is missing");
    let kinds = [
        ("#!/bin/sh\nexit 1", 0o600, 0, "it is not permitted"),
        ("#!/nowhere/sh\n", 0o700, 0, "what it needs is missing"),
        ("\u{7f}ELF\u{2}\u{1}", 0o700, 0, "it is of another machine"),
        ("#!/bin/sh\n[ \"$1\" = --version ] || exit 2\n", 0o700, 2, "it can"),
    ];
    for (text, mode, code, why) in kinds {
        write(&program, text);
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(codes(), [Some(code); 2], "{why}");
    }
}

fn print_writes_nothing() {
    let home = TestHome::plain();
    for (harness, _) in HARNESSES {
        let answer = hooks(&home, &["print", harness]).expect_code(0);
        assert!(answer.stdout.contains("fm-watch"), "{answer:?}");
    }
    assert_eq!(fs::read_dir(home.scratch().join("user")).unwrap().count(), 0);
}

fn a_harness_without_hooks_of_a_project_is_a_usage_error() {
    let home = TestHome::plain();
    hooks(&home, &["install", "kimi", "--project"]).expect_code(2);
    says(&home, &["install", "grok", "--project"], "written");
    assert!(user(&home, ".grok/hooks/fm-watch.json").exists());
    let mut homeless = command(&home, &["install", "claude"]);
    homeless.env_remove("HOME");
    finish(homeless).expect_code(2);
}

/// Installs entries that name `fm-watch`, and puts something else in its place.
#[track_caller]
fn installed_by_name(home: &TestHome, harness: &str, script: &str) -> PathBuf {
    let directory = home.scratch().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let _none_yet = fs::remove_file(directory.join("fm-watch"));
    symlink(*PROGRAM, directory.join("fm-watch")).unwrap();
    let mut install = command(home, &["install", harness]);
    on_path(&mut install, &directory);
    finish(install).expect_code(0);
    fs::remove_file(directory.join("fm-watch")).unwrap();
    programs(home, script)
}

#[track_caller]
fn check(home: &TestHome, harness: &str, directory: &Path) -> Answer {
    let mut check = command(home, &["check", harness]);
    on_path(&mut check, directory);
    finish(check)
}

fn check_says_what_is_missing_and_what_runs() {
    let home = TestHome::plain();
    for (harness, _) in HARNESSES {
        let answer = hooks(&home, &["check", harness]).expect_code(1);
        assert!(answer.stdout.contains("FAIL present"), "{answer:?}");
    }
    let seen = home.scratch().join("seen");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\ncat\n", seen.display());
    let directory = installed_by_name(&home, "claude", &script);
    let answer = check(&home, "claude", &directory).expect_code(0);
    assert!(answer.stdout.contains("PASS parses"), "{answer:?}");
    assert_eq!(answer.stdout.lines().filter(|line| line.contains(" runs: ") && line.contains(" ms")).count(), 4);
    // Once each, and never the one that waits.
    let seen = fs::read_to_string(seen).unwrap();
    assert_eq!(seen.lines().count(), 4, "{seen}");
    assert!(seen.contains("hook --harness claude --event turn-end") && !seen.contains("--event wait"), "{seen}");

    programs(&home, "#!/bin/sh\necho broken >&2\nexit 3\n");
    let answer = check(&home, "claude", &directory).expect_code(1);
    assert!(answer.stdout.contains("FAIL runs: turn-end exited with 3: broken"), "{answer:?}");
    fs::remove_file(directory.join("fm-watch")).unwrap();
    assert!(check(&home, "claude", &directory).expect_code(1).stdout.contains("does not find fm-watch"));
}

const QUIET: &str = "#!/bin/sh\nexit 0\n";

/// Codex runs its hooks in a login shell, which sets `PATH` anew.
fn login_shell(home: &TestHome, directory: &Path, more: &str) {
    write(&user(home, ".profile"), &format!("PATH={}:/usr/bin:/bin\n{more}", directory.display()));
}

fn check_knows_what_codex_trusts() {
    let home = TestHome::plain();
    let directory = installed_by_name(&home, "codex", QUIET);
    login_shell(&home, &directory, "");
    let answer = check(&home, "codex", &directory).expect_code(0);
    assert!(answer.stdout.contains("WARN trusted: Codex has a trusted hash for 0 of 4"), "{answer:?}");
    let file = user(&home, ".codex/hooks.json");
    let states: Vec<_> = ["session_start", "user_prompt_submit", "pre_tool_use", "stop"]
        .iter()
        .map(|event| format!("[hooks.state.\"{}:{event}:0:0\"]\ntrusted_hash = \"sha256:1\"\n", file.display()))
        .collect();
    write(&user(&home, ".codex/config.toml"), &states.concat());
    let answer = check(&home, "codex", &directory).expect_code(0);
    assert!(answer.stdout.contains("PASS trusted: Codex has a trusted hash for each of 4"), "{answer:?}");
}

fn check_sees_entries_that_run_twice() {
    let home = TestHome::plain();
    installed_by_name(&home, "claude", QUIET);
    let directory = installed_by_name(&home, "grok", QUIET);
    let answer = check(&home, "grok", &directory).expect_code(0);
    assert!(answer.stdout.contains("may also run the entries for Claude Code"), "{answer:?}");
    let file = user(&home, ".claude/settings.json");
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.contains("session-start")).unwrap();
    fs::write(&file, text.replace(line, &format!("{line},\n{line}"))).unwrap();
    assert!(check(&home, "claude", &directory).expect_code(0).stdout.contains("WARN doubled: an entry is there twice"));
    fs::write(&file, text).unwrap();
    assert!(check(&home, "claude", &directory).expect_code(0).stdout.contains("PASS doubled"));
    // The same harness in a project of this user.
    let project = home.scratch().join("project");
    fs::create_dir(&project).unwrap();
    let mut install = command(&home, &["install", "claude", "--project"]);
    install.current_dir(&project);
    finish(install).expect_code(0);
    let mut check = command(&home, &["check", "claude"]);
    on_path(&mut check, &directory);
    check.current_dir(&project);
    let answer = finish(check);
    assert!(answer.stdout.contains("WARN doubled: ") && answer.stdout.contains("runs twice"), "{answer:?}");
}

fn check_sees_a_file_that_turns_its_hooks_off() {
    let home = TestHome::plain();
    let off = [
        ("claude", ".claude/settings.json", "{\"disableAllHooks\": true}"),
        ("claude", ".claude/settings.local.json", "{\"disableAllHooks\": true}"),
        ("gemini", ".gemini/settings.json", "{\"hooksConfig\": {\"enabled\": false}}"),
        ("codex", ".codex/config.toml", "[features]\nhooks = false\n"),
        ("codex", ".codex/config.toml", "features.codex_hooks = false # old\n"),
    ];
    for (harness, path, text) in off {
        let path = user(&home, path);
        write(&path, text);
        let directory = installed_by_name(&home, harness, QUIET);
        let answer = check(&home, harness, &directory).expect_code(1);
        let turned_off = format!("FAIL enabled: {} turns all hooks off", path.display());
        assert!(answer.stdout.contains(&turned_off), "{answer:?}");
        hooks(&home, &["uninstall", harness]).expect_code(0);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::remove_file(&path).unwrap();
        installed_by_name(&home, harness, QUIET);
        assert!(check(&home, harness, &directory).stdout.contains("PASS enabled"));
        hooks(&home, &["uninstall", harness]).expect_code(0);
    }
}

fn check_knows_that_gemini_runs_a_command_once_and_lets_people_turn_it_off() {
    let home = TestHome::plain();
    let directory = installed_by_name(&home, "gemini", QUIET);
    let path = user(&home, ".gemini/settings.json");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.contains("turn-end")).unwrap();
    let twice = text.replace(line, &format!("{line},\n{line}"));
    fs::write(&path, &twice).unwrap();
    let answer = check(&home, "gemini", &directory).expect_code(0);
    assert!(answer.stdout.contains("PASS doubled: there twice, but Gemini CLI runs the same command only once"));
    let command = install::entry::entries(Harness::Gemini, &Program::OnPath).pop().unwrap().command;
    let off = format!("{{\"hooksConfig\": {{\"disabled\": [\"other\", \"{command}\"]}},");
    fs::write(&path, text.replacen('{', &off, 1)).unwrap();
    let answer = check(&home, "gemini", &directory).expect_code(0);
    assert!(answer.stdout.contains("WARN enabled: somebody has turned off entries of ours"), "{answer:?}");
}

fn check_sees_a_shell_that_talks() {
    let home = TestHome::plain();
    let directory = installed_by_name(&home, "codex", QUIET);
    login_shell(&home, &directory, "echo Good morning\n");
    let answer = check(&home, "codex", &directory).expect_code(1);
    let found = "FAIL runs: turn-end: a shell says something of its own, which is taken for an answer: Good morning";
    assert!(answer.stdout.contains(found), "{answer:?}");
    login_shell(&home, &directory, "");
    assert!(check(&home, "codex", &directory).expect_code(0).stdout.contains("PASS runs: turn-end in "));
    write(&user(&home, ".profile"), "PATH=/usr/bin:/bin\n");
    let answer = check(&home, "codex", &directory).expect_code(1);
    assert!(answer.stdout.contains("FAIL runs: turn-end: the shell in which it runs does not find fm-watch"));
}

fn check_sees_what_somebody_made_of_an_entry() {
    let home = TestHome::plain();
    let path = user(&home, ".cursor/hooks.json");
    let mine = "nice fm-watch hook --harness cursor --event turn-end";
    let before = format!("{{\"version\": 1, \"hooks\": {{\"stop\": [{{\"command\": \"{mine}\"}}]}}}}");
    write(&path, &before);
    let directory = installed_by_name(&home, "cursor", QUIET);
    let answer = check(&home, "cursor", &directory).expect_code(0);
    assert!(answer.stdout.contains("WARN doubled: fm-watch did not write this one of stop"), "{answer:?}");
    assert!(answer.stdout.contains(mine), "{answer:?}");
    says(&home, &["uninstall", "cursor"], "written");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

fn check_runs_what_a_plugin_runs() {
    let home = TestHome::plain();
    for harness in ["opencode", "pi"] {
        let directory = installed_by_name(&home, harness, QUIET);
        let answer = check(&home, harness, &directory).expect_code(0);
        assert_eq!(answer.stdout.lines().filter(|line| line.starts_with("PASS runs: ")).count(), 3, "{answer:?}");
        programs(&home, "#!/bin/sh\nexit 9\n");
        assert!(check(&home, harness, &directory).expect_code(1).stdout.contains("turn-end exited with 9"));
    }
}

fn check_sees_a_waiter_that_would_hold_the_session() {
    let home = TestHome::plain();
    let directory = installed_by_name(&home, "claude", QUIET);
    let path = user(&home, ".claude/settings.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(", \"asyncRewake\": true", "")).unwrap();
    let answer = check(&home, "claude", &directory).expect_code(1);
    assert!(answer.stdout.contains("FAIL present: the entry that waits"), "{answer:?}");
    hooks(&home, &["uninstall", "claude"]).expect_code(0);
    installed_by_name(&home, "claude", QUIET);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    check(&home, "claude", &directory).expect_code(0);
}

fn a_plugin_that_somebody_edited_is_kept_beside() {
    let home = TestHome::plain();
    let path = user(&home, ".pi/agent/extensions/fm-watch.ts");
    says(&home, &["install", "pi"], "written");
    let edited = fs::read_to_string(&path).unwrap() + "// and mine\n";
    fs::write(&path, &edited).unwrap();
    let answer = hooks(&home, &["uninstall", "pi"]).expect_code(0);
    assert!(answer.stderr.contains(backup(&path).to_str().unwrap()) && !path.exists(), "{answer:?}");
    assert_eq!(fs::read_to_string(backup(&path)).unwrap(), edited);
    says(&home, &["install", "pi"], "written");
    says(&home, &["uninstall", "pi"], "removed");
    assert_eq!(fs::read_to_string(backup(&path)).unwrap(), edited);
}

/// A program that writes down what it is asked, and answers each event in its own way.
const ANSWERING: &str = r#"#!/bin/sh
echo "$5 $(cat)" >> "$HOME/asked"
case $5 in
  session-start) echo '{"context":"a fact"}' ;;
  pre-tool) echo '{"deny":"not that"}' ;;
  turn-end) echo '{"follow_up":"go on"}' ;;
esac
"#;

/// Runs a script of Node beside an installed plugin, with this program, and gives what it prints.
#[track_caller]
fn in_node(home: &TestHome, harness: &str, program: &str, script: &str) -> Answer {
    let directory = installed_by_name(home, harness, program);
    let (_, path) = HARNESSES.into_iter().find(|(name, _)| *name == harness).unwrap();
    let plugin = fs::read_to_string(user(home, path)).unwrap();
    // Nobody wants to wait here as long as a session would.
    assert!(plugin.contains("const LIMIT_MS = 3000;"));
    let plugin = plugin.replace("LIMIT_MS = 3000", "LIMIT_MS = 700").replace("STAYS_MS = 1000", "STAYS_MS = 50");
    write(&home.scratch().join("plugin.mjs"), &plugin);
    write(&home.scratch().join("test.mjs"), script);
    let mut node = home.bare("node");
    on_path(&mut node, &directory);
    node.arg(home.scratch().join("test.mjs"));
    finish(node)
}

/// As [`in_node`], with a program that answers, and also what that was asked.
#[track_caller]
fn with_plugin(home: &TestHome, harness: &str, script: &str) -> (String, String) {
    let answer = in_node(home, harness, ANSWERING, script).expect_code(0);
    (answer.stdout, fs::read_to_string(user(home, "asked")).unwrap_or_default())
}

/// Asks everything once, under whatever circumstances, and prints what came of it. It ends by itself, and says so last.
const ASK_OPENCODE: &str = r#"
    import * as plugin from "./plugin.mjs";
    const said = [];
    const client = { session: { prompt: async () => said.push("prompt"), promptAsync: async () => said.push("again") } };
    const hooks = await plugin.FmWatch({ client, directory: process.env.HOME });
    await Promise.all([
      hooks.event({ event: { type: "session.created", properties: { info: { id: "s" } } } }),
      hooks.event({ event: { type: "session.status", properties: { sessionID: "s", status: { type: "idle" } } } }),
      hooks["tool.execute.before"]({ tool: "bash", sessionID: "s" }, { args: { command: "ls" } }),
    ]);
"#;

/// The same for Pi.
const ASK_PI: &str = r#"
    import extension from "./plugin.mjs";
    const said = [];
    const handlers = {};
    const say = (what) => () => said.push(what);
    extension({ on: (name, handler) => (handlers[name] = handler), sendMessage: say("message"), sendUserMessage: say("user") });
    const ctx = { cwd: process.env.HOME, sessionManager: { getSessionId: () => "s" } };
    await Promise.all([
      handlers.session_start({}, ctx),
      handlers.agent_settled({}, ctx),
      handlers.tool_call({ toolName: "bash", input: { command: "ls" } }, ctx).then((x) => x && said.push("blocked")),
    ]);
"#;

/// No child is left, not even one that nobody has reaped.
const ALONE: &str = r#"
    import { readFileSync } from "node:fs";
    const children = () => readFileSync("/proc/self/task/" + process.pid + "/children", "utf8").trim();
    while (children() !== "") await new Promise((resolve) => setImmediate(resolve));
    console.log(JSON.stringify(said.sort()), process.memoryUsage().rss < 400e6);
"#;

fn whatever_the_program_does_no_plugin_throws_hangs_or_leaves_a_process() -> Result<(), Skip> {
    requires("node")?;
    let programs = [
        ("exit at once", "#!/bin/sh\nexit 3\n"),
        ("no program", "#!/nowhere/sh\n"),
        ("never answers", "#!/bin/sh\nexec tail -f /dev/null\n"),
        ("never reads", "#!/bin/sh\nexec <&-\nexec tail -f /dev/null\n"),
        ("does not stop talking", "#!/bin/sh\nexec yes\n"),
        ("talks nonsense", "#!/bin/sh\necho '{\"deny\":'\n"),
        ("says nothing", "#!/bin/sh\necho null\n"),
        ("says a number", "#!/bin/sh\necho 7\n"),
        ("says other things", "#!/bin/sh\necho '{\"deny\":{\"a\":1},\"context\":[],\"follow_up\":true}'\n"),
        ("kills itself", "#!/bin/sh\nkill -9 $$\n"),
    ];
    for (what, program) in programs {
        for (harness, ask) in [("opencode", ASK_OPENCODE), ("pi", ASK_PI)] {
            let home = TestHome::plain();
            let answer = in_node(&home, harness, program, &format!("{ask}{ALONE}"));
            assert_eq!((answer.code, answer.stdout.trim()), (Some(0), "[] true"), "{harness}: {what}: {answer:?}");
            assert_eq!(answer.stderr, "", "{harness}: {what}");
        }
    }
    // Somebody else keeps the pipe: the answer counts, and nobody waits for it.
    let holding = "#!/bin/sh\ncat \"$HOME/fifo\" &\necho $! >> \"$HOME/holders\"\necho '{\"follow_up\":\"go on\"}'\n";
    for (harness, ask, said) in [("opencode", ASK_OPENCODE, "again"), ("pi", ASK_PI, "user")] {
        let home = TestHome::plain();
        let fifo = user(&home, "fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let answer = in_node(&home, harness, holding, &format!("{ask}console.log(JSON.stringify(said));"));
        assert_eq!((answer.code, answer.stdout.trim()), (Some(0), &*format!("[\"{said}\"]")), "{answer:?}");
        let holders = fs::read_to_string(user(&home, "holders")).unwrap();
        let holders: Vec<u32> = holders.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(holders.len(), 3);
        wait_until_true(SOON, "whoever kept the pipes has ended", || {
            // Whoever waits for a writer has met one then.
            drop(fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap());
            holders.iter().all(|pid| has_ended(*pid))
        });
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "most of it is the program of the host")]
fn whatever_the_host_does_no_plugin_throws() -> Result<(), Skip> {
    requires("node")?;
    let home = TestHome::plain();
    let throwing = r#"
        const circle = {};
        circle.self = circle;
        const trap = new Proxy({}, { get() { throw new Error("a trap"); } });
        const odd = [undefined, null, 1, "x", {}, [], trap, circle, 1n];
    "#;
    let opencode = r#"
        import * as plugin from "./plugin.mjs";
        const broken = [async () => { throw new Error("gone"); }, () => { throw new Error("gone"); }, undefined];
        for (const call of broken) {
          const client = call && { session: { prompt: call, promptAsync: call } };
          for (const directory of [process.env.HOME, "/nowhere", undefined, 7]) {
            const hooks = await plugin.FmWatch({ client, directory });
            await hooks.event({ event: { type: "session.created", properties: { info: { id: "s" } } } });
            const idle = { sessionID: "s", status: { type: "idle" } };
            await hooks.event({ event: { type: "session.status", properties: idle } });
          }
        }
        const hooks = await plugin.FmWatch({});
        for (const event of odd) {
          await hooks.event(event);
          await hooks.event({ event });
          for (const type of ["session.created", "session.deleted", "session.status", "session.error"]) {
            await hooks.event({ event: { type, properties: event } });
            await hooks.event({ event: { type, properties: { info: event, status: event, sessionID: event } } });
          }
        }
        const before = hooks["tool.execute.before"];
        for (const input of odd) await before(input, input);
        let denied = 0;
        for (const command of odd) {
          const answer = before({ tool: "bash", sessionID: "s" }, { args: { command } });
          await answer.catch((error) => (denied += error.message === "not that"));
        }
        // What cannot be told to the program is not refused either: a trap, a circle, and a number without end.
        console.log(denied);
    "#;
    let answer = in_node(&home, "opencode", ANSWERING, &format!("{throwing}{opencode}"));
    assert_eq!((answer.code, answer.stdout.trim(), &*answer.stderr), (Some(0), "6", ""), "{answer:?}");
    let pi = r#"
        import extension from "./plugin.mjs";
        for (const on of [undefined, () => { throw new Error("no such event"); }]) extension({ on });
        const handlers = {};
        const gone = () => { throw new Error("gone"); };
        extension({ on: (name, handler) => (handlers[name] = handler), sendMessage: gone, sendUserMessage: async () => gone() });
        const contexts = [...odd, { sessionManager: trap }, { cwd: "/nowhere" }, { sessionManager: { getSessionId: gone } }];
        let denied = 0;
        for (const ctx of contexts) {
          await handlers.session_start({}, ctx);
          await handlers.agent_settled(ctx, ctx);
          await handlers.tool_call(ctx, ctx);
        }
        for (const command of odd) {
          const answer = await handlers.tool_call({ toolName: "bash", input: { command } }, { cwd: process.env.HOME });
          denied += answer?.block === true && answer.reason === "not that";
        }
        console.log(denied);
    "#;
    let answer = in_node(&home, "pi", ANSWERING, &format!("{throwing}{pi}"));
    assert_eq!((answer.code, answer.stdout.trim(), &*answer.stderr), (Some(0), "6", ""), "{answer:?}");
    Ok(())
}

fn an_older_pi_that_does_not_say_that_it_has_settled_is_asked_too() -> Result<(), Skip> {
    requires("node")?;
    let home = TestHome::plain();
    let script = |steps: &str| {
        format!(
            r#"
            import extension from "./plugin.mjs";
            const handlers = {{}};
            let told;
            const once = new Promise((resolve) => (told = resolve));
            const tell = (text) => {{ console.log(text); told(); }};
            extension({{ on: (name, handler) => (handlers[name] = handler), sendUserMessage: tell }});
            const ctx = {{ cwd: process.env.HOME, sessionManager: {{ getSessionId: () => "s" }} }};
            // Pi lives on while an agent rests; ten times as long as an agent has to stay at its end.
            const lives = new Promise((resolve) => setTimeout(resolve, 500));
            {steps}
            await lives;
            "#
        )
    };
    let older = script("await handlers.agent_end({}, ctx); await handlers.agent_end({}, ctx); await once;");
    let (said, asked) = with_plugin(&home, "pi", &older);
    assert_eq!((said.trim(), asked.lines().count()), ("go on", 1), "{asked}");
    for quiet in ["agent_start", "session_shutdown"] {
        let home = TestHome::plain();
        let goes_on = script(&format!("await handlers.agent_end({{}}, ctx); await handlers.{quiet}({{}}, ctx);"));
        assert_eq!(with_plugin(&home, "pi", &goes_on), (String::new(), String::new()), "{quiet}");
    }
    let home = TestHome::plain();
    let newer = "await handlers.agent_end({}, ctx); await handlers.agent_settled({}, ctx); await handlers.agent_end({}, ctx);";
    let (said, asked) = with_plugin(&home, "pi", &script(newer));
    assert_eq!((said.trim(), asked.lines().count()), ("go on", 1), "{asked}");
    Ok(())
}

fn a_turn_of_opencode_that_was_stopped_is_not_answered() -> Result<(), Skip> {
    requires("node")?;
    let home = TestHome::plain();
    let (said, asked) = with_plugin(
        &home,
        "opencode",
        r#"
        import * as plugin from "./plugin.mjs";
        const client = { session: { promptAsync: async ({ path }) => console.log(path.id) } };
        const hooks = await plugin.FmWatch({ client, directory: process.env.HOME });
        const event = (type, sessionID, status) => hooks.event({ event: { type, properties: { sessionID, status } } });
        const status = (id, type) => event("session.status", id, { type });
        await status("stopped", "busy");
        await event("session.error", "stopped");
        await status("stopped", "idle");
        await event("session.error", "goes on");
        await status("goes on", "busy");
        // Three times the same end of a turn is one.
        await Promise.all([status("goes on", "idle"), status("goes on", "idle"), status("goes on", "idle")]);
        await status("stopped", "busy");
        await status("stopped", "idle");
        "#,
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), ["goes on", "stopped"]);
    assert_eq!(asked.lines().count(), 2, "{asked}");
    Ok(())
}

fn the_plugin_of_opencode_asks_and_does_what_it_is_told() -> Result<(), Skip> {
    requires("node")?;
    let home = TestHome::plain();
    let (said, asked) = with_plugin(
        &home,
        "opencode",
        r#"
        import * as plugin from "./plugin.mjs";
        const say = (what) => async (request) => console.log(what, JSON.stringify(request));
        const client = { session: { prompt: say("prompt"), promptAsync: say("promptAsync") } };
        if (Object.values(plugin).some((value) => typeof value !== "function")) throw new Error("an export too many");
        const hooks = await plugin.FmWatch({ client, directory: process.env.HOME });
        const event = (type, properties) => hooks.event({ event: { type, properties } });
        await event("session.created", { info: { id: "s" } });
        await event("session.created", { info: { id: "inner", parentID: "s" } });
        await event("session.status", { sessionID: "inner", status: { type: "idle" } });
        await event("session.status", { sessionID: "s", status: { type: "busy" } });
        await event("session.status", { sessionID: "s", status: { type: "idle" } });
        await event("nonsense");
        const before = (tool, command) => hooks["tool.execute.before"]({ tool, sessionID: "s" }, { args: { command } });
        await before("read");
        await before("bash", "pkill x").catch((error) => console.log("denied", error.message));
        "#,
    );
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("prompt {") && lines[0].contains("\"noReply\":true") && lines[0].contains("a fact"));
    assert!(lines[1].starts_with("promptAsync {") && lines[1].contains("go on"), "{said}");
    assert_eq!(lines[2], "denied not that");
    assert_eq!(asked.lines().count(), 3, "{asked}");
    assert!(asked.contains("pkill x") && asked.contains("\"session_id\":\"s\""), "{asked}");
    Ok(())
}

fn the_extension_of_pi_asks_and_does_what_it_is_told() -> Result<(), Skip> {
    requires("node")?;
    let home = TestHome::plain();
    let (said, asked) = with_plugin(
        &home,
        "pi",
        r#"
        import extension from "./plugin.mjs";
        const handlers = {};
        extension({
          on: (name, handler) => (handlers[name] = handler),
          sendMessage: (message, how) => console.log("message", message.content, how.triggerTurn, how.deliverAs),
          sendUserMessage: (text, how) => console.log("user", text, how.deliverAs),
        });
        const ctx = { cwd: process.env.HOME, sessionManager: { getSessionId: () => "s" } };
        await handlers.session_start({ reason: "startup" }, ctx);
        console.log(JSON.stringify((await handlers.tool_call({ toolName: "read", input: {} }, ctx)) ?? null));
        console.log(JSON.stringify(await handlers.tool_call({ toolName: "bash", input: { command: "pkill x" } }, ctx)));
        await handlers.agent_settled({}, ctx);
        "#,
    );
    let lines: Vec<_> = said.lines().collect();
    let told = ["message a fact false nextTurn", "null", r#"{"block":true,"reason":"not that"}"#, "user go on followUp"];
    assert_eq!(lines, told);
    assert_eq!(asked.lines().count(), 3, "{asked}");
    Ok(())
}

#[cfg(feature = "sync-points")]
fn killed_before_the_rename_the_old_content_is_there() {
    let home = TestHome::plain();
    let path = user(&home, ".claude/settings.json");
    write(&path, "{ }");
    for point in ["StorageChange", "HooksBackedUp"] {
        let mut install = command(&home, &["install", "claude"]);
        kill_at(&mut install, point);
        assert_eq!(finish(install).code, None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{ }");
    }
    says(&home, &["install", "claude"], "written");
    says(&home, &["uninstall", "claude"], "written");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ }");
}

/// Installs, while a harness adds a permission between the reading and the last look.
#[cfg(feature = "sync-points")]
fn installed_while_a_harness_writes(home: &TestHome, protections_off: &[&str]) -> (Answer, String) {
    let path = user(home, ".claude/settings.json");
    let before = "{\"allow\": []}";
    write(&path, before);
    let points = Points::new(home, "install");
    let mut install = command(home, &["install", "claude"]);
    points.pause(&mut install, &["HooksBackedUp"]);
    without(&mut install, protections_off);
    let install = Background::spawn(install);
    points.wait_until_reached("HooksBackedUp");
    fs::write(&path, "{\"allow\": [\"ls\"]}").unwrap();
    points.go("HooksBackedUp");
    (install.finish(SOON), fs::read_to_string(&path).unwrap())
}

#[cfg(feature = "sync-points")]
fn what_a_harness_writes_meanwhile_is_kept() {
    let home = TestHome::plain();
    let (answer, text) = installed_while_a_harness_writes(&home, &[]);
    let answer = answer.expect_code(1);
    assert!(answer.stderr.contains("just changed it"), "{answer:?}");
    assert_eq!(text, "{\"allow\": [\"ls\"]}");
}

#[cfg(feature = "sync-points")]
fn without_the_last_look_what_a_harness_writes_meanwhile_is_lost() {
    let home = TestHome::plain();
    let (answer, text) = installed_while_a_harness_writes(&home, &["StorageLastLook"]);
    answer.expect_code(0);
    assert!(text.contains("fm-watch") && !text.contains("\"ls\""), "{text}");
}

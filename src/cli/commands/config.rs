//! `config check` and `config show`: what the settings say, and whether they can be meant.
//!
//! `check` finds what loading cannot afford to look for at every start: patterns that are no regular expressions,
//! programs that may not run, values that are each in order and make no sense together. `show` prints what counts, in
//! the form of a settings file, so its output can be written down as one.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit;
use crate::journal::record::Delivery;
use crate::layout::paths::Home;
use crate::settings::{Entry, Loaded, Notify, Origin, Overrides, Rule, Settings, quoted, quoted_list};

/// Whether `show` says where each value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// Values only.
    Hidden,
    /// A comment beside each value, or one more object in JSON.
    Shown,
}

/// For whom `show` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines of TOML.
    Toml,
    /// One JSON object.
    Json,
}

/// The version of the JSON object that `show` prints.
const SCHEMA: u32 = 1;

/// Loads the settings, tries every pattern and looks at every program, and prints `ok: <path>`, or everything that
/// is wrong, one finding on a line. The exit code is 0 or 2.
///
/// # Errors
/// Only those of the output.
pub fn check(home: &Home, overrides: &Overrides, environment: &Environment, out: &mut dyn Write) -> Result<u8> {
    let findings = match Settings::load(home, overrides, environment) {
        Ok(loaded) => loaded.findings(),
        Err(error) => vec![error],
    };
    for finding in &findings {
        print(out, &escape::line(&finding.to_string()))?;
    }
    if findings.is_empty() {
        print(out, &format!("ok: {}", shown(&home.settings_file())))?;
        return Ok(exit::OK);
    }
    Ok(exit::USAGE)
}

/// Prints every value that counts.
///
/// # Errors
/// What is wrong with the settings, and those of the output.
pub fn show(
    home: &Home,
    overrides: &Overrides,
    environment: &Environment,
    origins: Origins,
    format: Format,
    out: &mut dyn Write,
) -> Result<u8> {
    let loaded = Settings::load(home, overrides, environment)?;
    match format {
        Format::Toml => toml_lines(&loaded, origins).iter().try_for_each(|line| print(out, line))?,
        Format::Json => print(out, &json(&loaded, &home.settings_file(), origins).to_string())?,
    }
    Ok(exit::OK)
}

fn print(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(cannot_print)
}

fn cannot_print(error: io::Error) -> Error {
    Error::system("write to", "standard output", error)
}

fn shown(path: &Path) -> String {
    escape::line(&path.display().to_string())
}

/// The lines of a settings file that says what counts.
fn toml_lines(loaded: &Loaded, origins: Origins) -> Vec<String> {
    let beside = |origin: &Origin| match origins {
        Origins::Hidden => String::new(),
        Origins::Shown => format!("  # {origin}"),
    };
    let mut lines = Vec::new();
    let mut section = "";
    for Entry { key, value, origin } in loaded.entries() {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        if table != section {
            section = table;
            lines.extend([String::new(), format!("[{table}]")]);
        }
        lines.push(match value {
            Some(value) => format!("{name} = {}{}", value.to_toml(), beside(origin)),
            None => format!("# {name} is not set"),
        });
    }
    for rule in &loaded.settings.rules {
        lines.extend([String::new(), format!("[[rule]]{}", beside(&rule.origin))]);
        lines.extend(rule_lines(rule));
    }
    for notify in &loaded.settings.notify {
        lines.extend([String::new(), format!("[[notify]]{}", beside(&notify.origin))]);
        lines.extend(notify_lines(notify, &loaded.settings));
    }
    lines
}

fn rule_lines(rule: &Rule) -> Vec<String> {
    let texts = [
        ("kind", rule.kind.as_deref()),
        ("key", rule.key.as_deref()),
        ("text", rule.text.as_deref()),
        ("deliver", Some(name_of(rule.deliver))),
    ];
    texts.iter().filter_map(|(name, text)| Some(format!("{name} = {}", quoted((*text)?)))).collect()
}

fn name_of(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Now => "now",
        Delivery::Batch => "batch",
        Delivery::Never => "never",
    }
}

fn notify_lines(notify: &Notify, settings: &Settings) -> Vec<String> {
    let mut lines = vec![
        format!("exec = {}", quoted_list(&notify.exec)),
        format!("timeout = {}", quoted(&timeout_text(notify, settings))),
    ];
    if !notify.kinds.is_empty() {
        lines.push(format!("kinds = {}", quoted_list(&kinds_of(notify))));
    }
    lines
}

fn timeout_text(notify: &Notify, settings: &Settings) -> String {
    humantime::format_duration(settings.timeout_of(notify)).to_string()
}

fn kinds_of(notify: &Notify) -> Vec<String> {
    notify.kinds.iter().map(ToString::to_string).collect()
}

fn json(loaded: &Loaded, path: &Path, origins: Origins) -> Json {
    let mut settings = Map::new();
    let mut known_origins = Map::new();
    for Entry { key, value, origin } in loaded.entries() {
        let value = value.as_ref().map_or(Json::Null, crate::settings::Value::to_json);
        settings.insert((*key).to_owned(), value);
        known_origins.insert((*key).to_owned(), origin.to_string().into());
    }
    let values = &loaded.settings;
    settings.insert("rule".to_owned(), values.rules.iter().map(rule_json).collect());
    settings.insert("notify".to_owned(), values.notify.iter().map(|one| notify_json(one, values)).collect());
    known_origins.insert("rule".to_owned(), values.rules.iter().map(|rule| rule.origin.to_string()).collect());
    known_origins.insert("notify".to_owned(), values.notify.iter().map(|one| one.origin.to_string()).collect());
    let mut object = json!({ "schema": SCHEMA, "file": path.to_string_lossy(), "settings": settings });
    if origins == Origins::Shown {
        object["origins"] = known_origins.into();
    }
    object
}

fn rule_json(rule: &Rule) -> Json {
    json!({ "kind": rule.kind, "key": rule.key, "text": rule.text, "deliver": rule.deliver })
}

fn notify_json(notify: &Notify, settings: &Settings) -> Json {
    json!({ "exec": notify.exec, "timeout": timeout_text(notify, settings), "kinds": kinds_of(notify) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    /// A home whose settings file holds this.
    fn home_with(text: &str) -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        std::fs::create_dir(directory.path().join("config")).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(home.settings_file()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        (directory, home)
    }

    fn checked(text: &str) -> (u8, String) {
        let (_directory, home) = home_with(text);
        let mut out = Vec::new();
        let code = check(&home, &Overrides::default(), &Environment::default(), &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    fn shown_as(home: &Home, origins: Origins, format: Format) -> String {
        let environment = Environment::from_pairs([("FM_POLL", "2.5")]);
        let overrides = Overrides::parse(&["context_max=17".to_owned()]).unwrap();
        let mut out = Vec::new();
        assert_eq!(show(home, &overrides, &environment, origins, format, &mut out).unwrap(), exit::OK);
        String::from_utf8(out).unwrap()
    }

    const TABLES: &str = r#"signal_grace = "1s"

[environment]
pass = ["LC_X", "GH_TOKEN"]

[[rule]]
kind = "^check$"
text = "a\"b\\d"
deliver = "batch"

[[notify]]
exec = ["/bin/echo", "a b"]
kinds = ["signal"]
"#;

    #[test]
    fn good_settings_and_none_at_all_are_ok() {
        let (code, text) = checked(TABLES);
        assert!(code == exit::OK && text.starts_with("ok: /"), "{text}");
        let (code, text) = checked("");
        assert!(code == exit::OK && text.ends_with("config/fm-watch.toml\n"), "{text}");
    }

    #[test]
    fn every_finding_is_one_line_that_says_where() {
        let text =
            "busy_regex = '('\nstuck_after = \"1s\"\n[[notify]]\nexec = ['/no/such']\n[[notify]]\nexec = ['/']\n";
        let (code, text) = checked(text);
        assert_eq!(code, exit::USAGE);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains("fm-watch.toml:1: busy_regex"), "{text}");
        assert!(lines[1].contains("/no/such"), "{text}");
        assert!(lines[2].contains("not a regular file"), "{text}");
        assert!(lines[3].contains("fm-watch.toml:2: stuck_after is 1s"), "{text}");
    }

    #[test]
    fn a_rule_with_a_broken_pattern_is_found() {
        let (code, text) = checked("\n[[rule]]\nkey = '['\ndeliver = 'now'\n");
        assert!(code == exit::USAGE && text.contains("fm-watch.toml:2: rule.key"), "{text}");
    }

    #[test]
    fn what_is_shown_is_a_settings_file_that_means_the_same() {
        let (_directory, home) = home_with(TABLES);
        let first = shown_as(&home, Origins::Hidden, Format::Toml);
        let (_other_directory, other) = home_with(&first);
        assert_eq!(shown_as(&other, Origins::Hidden, Format::Toml), first);
        let (code, text) = checked(&shown_as(&home, Origins::Shown, Format::Toml));
        assert_eq!(code, exit::OK, "{text}");
    }

    #[test]
    fn origins_stand_beside_the_values() {
        let (_directory, home) = home_with(TABLES);
        let text = shown_as(&home, Origins::Shown, Format::Toml);
        let file = home.settings_file();
        for line in [
            "poll = \"2s 500ms\"  # FM_POLL".to_owned(),
            format!("signal_grace = \"1s\"  # {}:1", file.display()),
            "context_max = \"17B\"  # --set context_max".to_owned(),
            "checks_at_once = 4  # default".to_owned(),
            "stuck_after = \"22s 500ms\"  # follows poll".to_owned(),
            "# runtime_dir is not set".to_owned(),
            format!("[[rule]]  # {}:6", file.display()),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn json_carries_the_same() {
        let (_directory, home) = home_with(TABLES);
        let object: Json = serde_json::from_str(&shown_as(&home, Origins::Shown, Format::Json)).unwrap();
        assert_eq!(object["schema"], 1);
        assert_eq!(object["settings"]["poll"], "2s 500ms");
        assert_eq!(object["settings"]["checks_at_once"], 4);
        assert_eq!(object["settings"]["runtime_dir"], Json::Null);
        assert_eq!(object["settings"]["environment.pass"], json!(["LC_X", "GH_TOKEN"]));
        assert_eq!(object["settings"]["rule"][0]["deliver"], "batch");
        assert_eq!(object["settings"]["notify"][0]["timeout"], "10s");
        assert_eq!(object["origins"]["poll"], "FM_POLL");
        let object: Json = serde_json::from_str(&shown_as(&home, Origins::Hidden, Format::Json)).unwrap();
        assert_eq!(object.get("origins"), None);
    }
}

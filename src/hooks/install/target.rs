//! Which file of which harness has the hooks, and in what form.

use std::path::{Path, PathBuf};

use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::hooks::harness::Harness;
use crate::system::program::{self, shell_word};

/// For which sessions hooks are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of this user.
    User,
    /// Those in the current directory.
    Project,
}

impl Scope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::User, Self::Project];
}

/// What a file of hooks is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON, perhaps with comments, shared with other settings.
    Json,
    /// TOML, shared with other settings.
    Toml,
    /// Code in a file of its own.
    Plugin,
}

/// A file of hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub harness: Harness,
    /// Where it is.
    pub path: PathBuf,
    /// The directory above all that is the harness's own.
    base: PathBuf,
    /// What it is made of.
    pub form: Form,
    /// The project for whose sessions it is; `None` for all sessions of the user.
    pub project: Option<PathBuf>,
}

impl Place {
    /// The file of a harness.
    ///
    /// # Errors
    /// The harness has no hooks for a project, or nobody knows where the user's files are.
    pub fn of(harness: Harness, scope: Scope, environment: &Environment, project: &Path) -> Result<Self> {
        let ((base, way), project) = match scope {
            Scope::User => (user_path(harness, environment)?, None),
            Scope::Project => ((project.to_owned(), project_path(harness)?), Some(project.to_owned())),
        };
        Ok(Self { harness, path: base.join(way), base, form: form(harness), project })
    }

    /// The directories on the way to the file that nobody but this harness uses, the innermost first.
    pub fn own_directories(&self) -> impl Iterator<Item = &Path> {
        self.path.ancestors().skip(1).take_while(|directory| *directory != self.base)
    }

    /// How a person calls `hooks` for this very file, from wherever they are.
    pub fn command_line(&self, verb: &str) -> String {
        let program = program::word(&Environment::of_this_process());
        let call = format!("{program} hooks {verb} {}", self.harness);
        match &self.project {
            None => call,
            Some(project) => format!("cd {} && {call} --project", shell_word(&project.to_string_lossy())),
        }
    }
}

fn form(harness: Harness) -> Form {
    match harness {
        Harness::Claude | Harness::Codex | Harness::Cursor | Harness::Gemini | Harness::Grok => Form::Json,
        Harness::Kimi => Form::Toml,
        Harness::OpenCode | Harness::Pi => Form::Plugin,
    }
}

/// Where the files of a user are: the directory that is there anyway, and the way from it to the file. The directories
/// on that way are the harness's own.
fn user_path(harness: Harness, environment: &Environment) -> Result<(PathBuf, &'static str)> {
    let home = || environment.path("HOME").filter(|home| home.is_absolute()).ok_or_else(no_home);
    // A harness whose files a variable has moved is not found in the home directory.
    let moved = |variable: &str| environment.path(variable);
    let in_home = |way: &'static str| Ok((home()?, way));
    let or_moved = |variable: &str, moved_way: &'static str, way: &'static str| match moved(variable) {
        Some(moved) if moved.is_absolute() => Ok((moved, moved_way)),
        Some(moved) => Err(not_absolute(variable, &moved)),
        None => in_home(way),
    };
    match harness {
        Harness::Claude => or_moved("CLAUDE_CONFIG_DIR", "settings.json", ".claude/settings.json"),
        Harness::Codex => or_moved("CODEX_HOME", "hooks.json", ".codex/hooks.json"),
        Harness::Cursor => in_home(".cursor/hooks.json"),
        Harness::Gemini => or_moved("GEMINI_CLI_HOME", ".gemini/settings.json", ".gemini/settings.json"),
        Harness::Grok => or_moved("GROK_HOME", "hooks/fm-watch.json", ".grok/hooks/fm-watch.json"),
        Harness::Kimi => or_moved("KIMI_CODE_HOME", "config.toml", ".kimi-code/config.toml"),
        Harness::OpenCode => match moved("XDG_CONFIG_HOME").filter(|moved| moved.is_absolute()) {
            Some(moved) => Ok((moved, OPENCODE)),
            // Others have files there, too.
            None => Ok((home()?.join(".config"), OPENCODE)),
        },
        Harness::Pi => or_moved("PI_CODING_AGENT_DIR", "extensions/fm-watch.ts", ".pi/agent/extensions/fm-watch.ts"),
    }
}

const OPENCODE: &str = "opencode/plugins/fm-watch.js";

fn not_absolute(variable: &str, path: &Path) -> Error {
    Error::Usage(format!("{variable} is {}, which is no absolute path; set it to one", path.display()))
}

fn no_home() -> Error {
    Error::Usage(
        "HOME is not set to an absolute path, so the user's files cannot be found; set it, or use --project".into(),
    )
}

fn project_path(harness: Harness) -> Result<&'static str> {
    match harness {
        Harness::Claude => Ok(".claude/settings.json"),
        Harness::Codex => Ok(".codex/hooks.json"),
        Harness::Cursor => Ok(".cursor/hooks.json"),
        Harness::Gemini => Ok(".gemini/settings.json"),
        Harness::Grok => Ok(".grok/hooks/fm-watch.json"),
        Harness::Kimi => Err(Error::Usage("Kimi Code has no hooks of a project; use --user".into())),
        Harness::OpenCode => Ok(".opencode/plugins/fm-watch.js"),
        Harness::Pi => Ok(".pi/extensions/fm-watch.ts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_moves_the_files_of_its_harness_and_of_no_other() {
        let moving = [
            (Harness::Claude, "CLAUDE_CONFIG_DIR", "/m/settings.json"),
            (Harness::Codex, "CODEX_HOME", "/m/hooks.json"),
            (Harness::Gemini, "GEMINI_CLI_HOME", "/m/.gemini/settings.json"),
            (Harness::Grok, "GROK_HOME", "/m/hooks/fm-watch.json"),
            (Harness::Kimi, "KIMI_CODE_HOME", "/m/config.toml"),
            (Harness::OpenCode, "XDG_CONFIG_HOME", "/m/opencode/plugins/fm-watch.js"),
            (Harness::Pi, "PI_CODING_AGENT_DIR", "/m/extensions/fm-watch.ts"),
        ];
        let place = |harness, variable: &str, value: &str| {
            let environment = Environment::from_pairs([("HOME", "/h"), (variable, value)]);
            Place::of(harness, Scope::User, &environment, "/p".as_ref())
        };
        for (harness, variable, path) in moving {
            assert_eq!(place(harness, variable, "/m").unwrap().path, Path::new(path));
            assert!(place(harness, variable, "").unwrap().path.starts_with("/h"));
            let relative = place(harness, variable, "m");
            assert!(relative.map_or(true, |place| place.path.starts_with("/h")), "{variable}");
            for other in Harness::ALL.into_iter().filter(|other| *other != harness) {
                assert!(place(other, variable, "/m").unwrap().path.starts_with("/h"));
            }
        }
    }

    #[test]
    fn only_directories_of_the_harness_are_its_own() {
        let environment = Environment::from_pairs([("HOME", "/h")]);
        let own = |harness, scope| {
            let place = Place::of(harness, scope, &environment, "/p".as_ref()).unwrap();
            place.own_directories().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(own(Harness::Claude, Scope::User), ["/h/.claude"]);
        assert_eq!(own(Harness::Grok, Scope::Project), ["/p/.grok/hooks", "/p/.grok"]);
        let environment = Environment::from_pairs([("HOME", "/h"), ("CODEX_HOME", "/m")]);
        let moved = Place::of(Harness::Codex, Scope::User, &environment, "/p".as_ref()).unwrap();
        assert_eq!(moved.own_directories().count(), 0);
    }
}

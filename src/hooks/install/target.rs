//! Which file of which harness has the hooks, in what form, and why such a file is not edited.

use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::hooks::harness::{Form, Harness, UserFile};
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

/// A file of hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
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

impl Target {
    /// The file of a harness.
    ///
    /// # Errors
    /// The harness has no hooks for a project, or nobody knows where the user's files are.
    pub fn of(harness: Harness, scope: Scope, environment: &Environment, project: &Path) -> Result<Self> {
        let profile = harness.profile();
        let no_project = || Error::Usage(format!("{} has no hooks of a project; use --user", profile.title));
        let ((base, way), project) = match scope {
            Scope::User => (user_path(profile.user_file, environment)?, None),
            Scope::Project => {
                ((project.to_owned(), profile.project_file.ok_or_else(no_project)?), Some(project.to_owned()))
            }
        };
        Ok(Self { harness, path: base.join(way), base, form: profile.form, project })
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

/// Where the files of a user are: the directory that is there anyway, and the way from it to the file.
fn user_path(file: UserFile, environment: &Environment) -> Result<(PathBuf, &'static str)> {
    let home = || environment.path("HOME").filter(|home| home.is_absolute()).ok_or_else(no_home);
    match file {
        UserFile::InHome(way) => Ok((home()?, way)),
        // A harness whose files a variable has moved is not found in the home directory.
        UserFile::Movable(variable, way, in_home) => match environment.path(variable) {
            Some(moved) if moved.is_absolute() => Ok((moved, way)),
            Some(moved) => Err(not_absolute(variable, &moved)),
            None => Ok((home()?, in_home)),
        },
        UserFile::InConfiguration(way) => {
            match environment.path("XDG_CONFIG_HOME").filter(|moved| moved.is_absolute()) {
                Some(moved) => Ok((moved, way)),
                None => Ok((home()?.join(".config"), way)),
            }
        }
    }
}

fn not_absolute(variable: &str, path: &Path) -> Error {
    Error::Usage(format!("{variable} is {}, which is no absolute path; set it to one", path.display()))
}

fn no_home() -> Error {
    Error::Usage(
        "HOME is not set to an absolute path, so the user's files cannot be found; set it, or use --project".into(),
    )
}

/// Why a file is not edited. It is as it was then.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Refusal {
    /// It is not what its kind of file has to be.
    #[error("it does not parse: {0}")]
    Syntax(String),
    /// It parses, and has something else where the hooks belong.
    #[error("{0}")]
    Shape(String),
    /// What would be put in could not be taken out again to the byte, or what is to be taken out is mixed with others'.
    #[error("our entries could not be told from the rest to the byte")]
    Layout,
    /// It has the name of a file of ours and is somebody else's.
    #[error("it is not a file that fm-watch has written")]
    Foreign,
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
        let target = |harness, variable: &str, value: &str| {
            let environment = Environment::from_pairs([("HOME", "/h"), (variable, value)]);
            Target::of(harness, Scope::User, &environment, "/p".as_ref())
        };
        for (harness, variable, path) in moving {
            assert_eq!(target(harness, variable, "/m").unwrap().path, Path::new(path));
            assert!(target(harness, variable, "").unwrap().path.starts_with("/h"));
            let relative = target(harness, variable, "m");
            assert!(relative.map_or(true, |target| target.path.starts_with("/h")), "{variable}");
            for other in Harness::ALL.into_iter().filter(|other| *other != harness) {
                assert!(target(other, variable, "/m").unwrap().path.starts_with("/h"));
            }
        }
    }

    #[test]
    fn only_directories_of_the_harness_are_its_own() {
        let environment = Environment::from_pairs([("HOME", "/h")]);
        let own = |harness, scope| {
            let target = Target::of(harness, scope, &environment, "/p".as_ref()).unwrap();
            target.own_directories().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(own(Harness::Claude, Scope::User), ["/h/.claude"]);
        assert_eq!(own(Harness::Grok, Scope::Project), ["/p/.grok/hooks", "/p/.grok"]);
        let environment = Environment::from_pairs([("HOME", "/h"), ("CODEX_HOME", "/m")]);
        let moved = Target::of(Harness::Codex, Scope::User, &environment, "/p".as_ref()).unwrap();
        assert_eq!(moved.own_directories().count(), 0);
    }
}

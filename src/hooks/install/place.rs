//! Which file of which harness has the hooks, and in what form.

use std::path::{Path, PathBuf};

use crate::commands::context::shell_word;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::hooks::harness::Harness;

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
        let (path, project) = match scope {
            Scope::User => (user_path(harness, environment)?, None),
            Scope::Project => (project.join(project_path(harness)?), Some(project.to_owned())),
        };
        Ok(Self { harness, path, form: form(harness), project })
    }

    /// How a person calls `hooks` for this very file, from wherever they are.
    pub fn command_line(&self, verb: &str) -> String {
        let call = format!("fm-watch hooks {verb} {}", self.harness);
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

fn user_path(harness: Harness, environment: &Environment) -> Result<PathBuf> {
    let home = environment.path("HOME").filter(|home| home.is_absolute());
    // A harness whose files a variable has moved is not found in the home directory.
    let or_in_home = |variable: &str, usual: &str| match environment.path(variable) {
        Some(moved) => Ok(moved),
        None => home.as_deref().map(|home| home.join(usual)).ok_or_else(no_home),
    };
    let in_home = |usual: &str| or_in_home("", usual);
    match harness {
        Harness::Claude => Ok(or_in_home("CLAUDE_CONFIG_DIR", ".claude")?.join("settings.json")),
        Harness::Codex => Ok(or_in_home("CODEX_HOME", ".codex")?.join("hooks.json")),
        Harness::Cursor => in_home(".cursor/hooks.json"),
        Harness::Gemini => in_home(".gemini/settings.json"),
        Harness::Grok => in_home(".grok/hooks/fm-watch.json"),
        Harness::Kimi => in_home(".kimi-code/config.toml"),
        Harness::OpenCode => Ok(or_in_home("XDG_CONFIG_HOME", ".config")?.join("opencode/plugins/fm-watch.js")),
        Harness::Pi => in_home(".pi/agent/extensions/fm-watch.ts"),
    }
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

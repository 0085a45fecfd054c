//! Whether a shell command would end the watcher by its name or its number.
//!
//! An agent that thinks the watcher is in the way types `pkill -f fm-watch`, and ends the watchers of every home on the
//! machine. Such a command is kept from running, and the safe one is named instead.
//!
//! The command is split as a shell splits it, as far as that can be done without running it, so that a word inside a
//! message or a search does not count. A mistake in one direction lets a kill through, which the next hook sees and
//! mends; one in the other keeps an innocent command from running, so whatever is not surely such a kill passes.
//!
//! Limits: variables, aliases, scripts in files and programs other than shells are not looked into.

use regex_lite::Regex;

use crate::system::program::NAME;

/// The watcher that a command might hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its number, if it lives.
    pub pid: Option<u32>,
    /// Its command line, as `pkill -f` sees it.
    pub command_line: String,
}

/// So many commands within commands are looked into.
const DEPTH: usize = 4;

/// Whether this command would end the watcher.
pub fn hits(command: &str, target: &Target) -> bool {
    // Nothing else is ever asked of most commands.
    command.contains("kill") && hits_within(command, target, DEPTH)
}

fn hits_within(command: &str, target: &Target, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let mut is_fed_with_its_number = false;
    split(command).iter().any(|simple| {
        let is_fed = is_fed_with_its_number && simple.is_fed;
        let words = bare(&simple.words);
        let Some((program, arguments)) = words.split_first() else { return false };
        is_fed_with_its_number = is_fed || finds(program, arguments, target);
        // What is inside `$(…)` runs too.
        simple.inner.iter().any(|inner| hits_within(inner, target, depth))
            || match base(program) {
                "pkill" => pkill_pattern(arguments).is_some_and(|(pattern, full)| matches(pattern, full, target)),
                "killall" => killall_hits(arguments, target),
                "kill" => {
                    arguments.iter().any(|argument| target.pid.is_some_and(|pid| *argument == pid.to_string()))
                        || simple.inner.iter().any(|inner| prints_its_number(inner, target))
                }
                "xargs" => is_fed && arguments.iter().any(|argument| base(argument) == "kill"),
                "sh" | "bash" | "dash" | "zsh" | "ksh" => {
                    script(arguments).is_some_and(|script| hits_within(script, target, depth))
                }
                "eval" => hits_within(&arguments.join(" "), target, depth),
                _ => false,
            }
    })
}

/// Whether a command between `$(` and `)` prints the watcher's number.
fn prints_its_number(command: &str, target: &Target) -> bool {
    split(command).iter().any(|simple| {
        let words = bare(&simple.words);
        words.split_first().is_some_and(|(program, arguments)| finds(program, arguments, target))
    })
}

/// Whether a simple command looks for the watcher among processes.
fn finds(program: &str, arguments: &[String], target: &Target) -> bool {
    match base(program) {
        "pgrep" => pkill_pattern(arguments).is_some_and(|(pattern, full)| matches(pattern, full, target)),
        "pidof" => arguments.iter().any(|argument| argument == NAME),
        "grep" | "rg" | "awk" => {
            arguments.iter().any(|argument| argument.contains(NAME) || argument.contains("[f]m-watch"))
        }
        _ => false,
    }
}

/// What `pkill` compares a pattern with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    Name,
    NameExactly,
    CommandLine,
}

/// A longer pattern is not tried: what a long one with many groups needs of memory grows with the square of its length.
const LONGEST_PATTERN: usize = 500;

fn matches(pattern: &str, compared: Compared, target: &Target) -> bool {
    if pattern.len() > LONGEST_PATTERN {
        return false;
    }
    let subject = if compared == Compared::CommandLine { target.command_line.as_str() } else { NAME };
    let pattern = if compared == Compared::NameExactly { format!("^(?:{pattern})$") } else { pattern.to_owned() };
    match Regex::new(&pattern) {
        // An empty pattern is an error of pkill's.
        Ok(regex) => !pattern.is_empty() && regex.is_match(subject),
        Err(_) => pattern.contains(NAME),
    }
}

/// The pattern of `pkill` or `pgrep`, and what it is compared with.
fn pkill_pattern(arguments: &[String]) -> Option<(&str, Compared)> {
    const WITH_A_VALUE: &str = "dFgGPstuUO";
    let (mut compared, mut arguments) = (Compared::Name, arguments.iter());
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix('-') {
            None | Some("") => return Some((argument, compared)),
            Some("-") => return arguments.next().map(|pattern| (pattern.as_str(), compared)),
            Some("-full") => compared = Compared::CommandLine,
            Some("-exact") => compared = Compared::NameExactly,
            Some(long) if long.starts_with('-') => {}
            // `-9`, `-KILL`, `-SIGKILL`
            Some(signal) if signal.starts_with(|first: char| first.is_ascii_digit()) => {}
            Some(signal) if signal.len() > 1 && signal.chars().all(|letter| letter.is_ascii_uppercase()) => {}
            Some(letters) => {
                if letters.contains('f') {
                    compared = Compared::CommandLine;
                } else if letters.contains('x') {
                    compared = Compared::NameExactly;
                }
                if letters.ends_with(|last| WITH_A_VALUE.contains(last)) {
                    arguments.next();
                }
            }
        }
    }
    None
}

/// Whether `killall` ends what has the watcher's name.
fn killall_hits(arguments: &[String], target: &Target) -> bool {
    let is_pattern = arguments.iter().any(|argument| matches!(argument.as_str(), "-r" | "--regexp"));
    arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .any(|argument| argument == NAME || is_pattern && matches(argument, Compared::Name, target))
}

/// The script of `sh -c SCRIPT`.
fn script(arguments: &[String]) -> Option<&str> {
    let at = arguments
        .iter()
        .position(|argument| argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c'))?;
    arguments.get(at + 1).map(String::as_str)
}

/// The name of a program without its directory.
fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The words of a simple command without what only runs it: variables, `sudo`, `env`, and the words of the shell's own
/// grammar.
fn bare(words: &[String]) -> &[String] {
    const RUNNERS: [&str; 10] =
        ["sudo", "doas", "env", "nohup", "exec", "command", "time", "nice", "setsid", "timeout"];
    const GRAMMAR: [&str; 9] = ["then", "do", "else", "if", "while", "until", "!", "{", "elif"];
    let mut rest = words;
    let mut runner = None;
    while let Some((first, others)) = rest.split_first() {
        let is_variable = first.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        });
        rest = if RUNNERS.contains(&base(first)) {
            runner = Some(base(first));
            others
        } else if let Some(runner) = runner.filter(|_| first.starts_with('-')) {
            if takes_a_value(runner, first) { others.get(1..).unwrap_or_default() } else { others }
        } else if is_variable || GRAMMAR.contains(&first.as_str()) || runner == Some("timeout") && is_time(first) {
            others
        } else {
            break;
        };
    }
    rest
}

/// Whether a word is the time that `timeout` takes before its command.
fn is_time(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether the word behind this option of a runner is the option's value.
fn takes_a_value(runner: &str, option: &str) -> bool {
    let letters = match runner {
        "sudo" => "ugUCpRDT",
        "doas" | "env" => "uC",
        "nice" => "n",
        "timeout" => "ks",
        "exec" => "a",
        _ => "",
    };
    option.strip_prefix('-').is_some_and(|letter| letter.len() == 1 && letters.contains(letter))
}

/// One simple command of a line.
#[derive(Debug, Default)]
struct Simple {
    words: Vec<String>,
    /// What stands between `$(` and `)`, or between backquotes.
    inner: Vec<String>,
    /// Whether it reads what the one before it prints.
    is_fed: bool,
}

/// Splits a line into its simple commands, as a shell would.
fn split(line: &str) -> Vec<Simple> {
    let mut splitter = Splitter { rest: line.chars().peekable(), done: Vec::new(), now: Simple::default(), word: None };
    splitter.run();
    splitter.done
}

struct Splitter<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    done: Vec<Simple>,
    now: Simple,
    word: Option<String>,
}

impl Splitter<'_> {
    fn run(&mut self) {
        while let Some(character) = self.rest.next() {
            match character {
                '\'' => self.quoted(),
                '"' => self.double_quoted(),
                '\\' => {
                    if let Some(next) = self.rest.next().filter(|&next| next != '\n') {
                        self.push(next);
                    }
                }
                '$' if self.rest.peek() == Some(&'(') => {
                    self.rest.next();
                    self.inner();
                }
                '`' => self.backquoted(),
                '#' if self.word.is_none() => while self.rest.next_if(|&next| next != '\n').is_some() {},
                '|' => {
                    let is_or = self.rest.next_if_eq(&'|').is_some();
                    self.end();
                    self.now.is_fed = !is_or;
                }
                '<' if self.rest.peek() == Some(&'<') => self.here_document(),
                ';' | '&' | '\n' | '(' | ')' => self.end(),
                character if character.is_whitespace() => self.end_word(),
                character => self.push(character),
            }
        }
        self.end();
    }

    fn push(&mut self, character: char) {
        self.word.get_or_insert_default().push(character);
    }

    fn end_word(&mut self) {
        self.now.words.extend(self.word.take());
    }

    fn end(&mut self) {
        self.end_word();
        let simple = std::mem::take(&mut self.now);
        if !simple.words.is_empty() || !simple.inner.is_empty() {
            self.done.push(simple);
        }
    }

    fn quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(character) = self.rest.next().filter(|&character| character != '\'') {
            self.push(character);
        }
    }

    fn double_quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(character) = self.rest.next().filter(|&character| character != '"') {
            match character {
                '\\' => {
                    if let Some(next) = self.rest.next() {
                        self.push(next);
                    }
                }
                '$' if self.rest.peek() == Some(&'(') => {
                    self.rest.next();
                    self.inner();
                }
                '`' => self.backquoted(),
                character => self.push(character),
            }
        }
    }

    fn inner(&mut self) {
        let (mut depth, mut text) = (1, String::new());
        for character in self.rest.by_ref() {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            text.push(character);
        }
        self.word.get_or_insert_default();
        self.now.inner.push(text);
    }

    /// What follows `<<WORD` up to a line that is that word is text for a program, not a command.
    fn here_document(&mut self) {
        self.rest.next();
        self.end_word();
        if self.rest.next_if_eq(&'<').is_some() {
            return;
        }
        let first = self.line().unwrap_or_default();
        let word = first.trim_start_matches(['-', ' ']).split([' ', ';', '|', '&', ')', '>']).next();
        let word = word.unwrap_or_default().trim_matches(['-', ' ', '\'', '"', '\\']);
        while self.line().is_some_and(|line| line.trim_start_matches('\t') != word) {}
        self.end();
    }

    /// The rest of a line; `None` behind the last one.
    fn line(&mut self) -> Option<String> {
        self.rest.peek()?;
        Some(self.rest.by_ref().take_while(|&character| character != '\n').collect())
    }

    fn backquoted(&mut self) {
        self.word.get_or_insert_default();
        let text = self.rest.by_ref().take_while(|&character| character != '`').collect();
        self.now.inner.push(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target() -> Target {
        Target { pid: Some(4711), command_line: "fm-watch --home /h run --word-fd 3".to_owned() }
    }

    #[test]
    fn a_kill_by_name_or_number_is_seen() {
        for command in [
            "pkill fm-watch",
            "pkill -9 fm-watch",
            "pkill -f fm-watch",
            "pkill -f 'fm-watch --home /h run'",
            "pkill -KILL -f 'fm-w[a]tch'",
            "pkill --signal=TERM --full fm-watch",
            "pkill -u me -f watch",
            "sudo pkill -f fm-watch || true",
            "cd /x && /usr/bin/pkill -x fm-watch",
            "killall fm-watch",
            "killall -9 fm-watch; ls",
            "kill 4711",
            "kill -9 4711",
            "kill -TERM $(pgrep -f fm-watch)",
            "kill `pidof fm-watch`",
            "kill \"$(pgrep fm-watch | head -1)\"",
            "pgrep -f fm-watch | xargs kill -9",
            "ps aux | grep [f]m-watch | awk '{print $2}' | xargs -r kill",
            "ps aux | grep fm-watch | head -1 | xargs kill",
            "bash -lc 'pkill -f fm-watch'",
            "sh -c \"sleep 1; killall fm-watch\"",
            "FOO=1 env BAR=2 pkill fm-watch",
            "timeout 5 pkill fm-watch",
            "timeout -k 1 -s KILL 5s pkill fm-watch",
            "sudo -n -u root pkill -f fm-watch",
            "env -u HOME nice -n 5 pkill fm-watch",
            "killall -r 'fm-w.*'",
            "if true; then pkill fm-watch; fi",
            "echo $(pkill fm-watch)",
            "eval 'pkill fm-watch'",
            "(pkill fm-watch)",
            "'pkill' '-f' 'fm-watch'",
            "cat <<EOF > x\nhello\nEOF\npkill fm-watch",
        ] {
            assert!(hits(command, &target()), "{command}");
        }
    }

    #[test]
    fn an_innocent_command_passes() {
        for command in [
            "",
            "ls",
            "fm-watch stop",
            "fm-watch arm --restart",
            "grep -rn 'pkill -f fm-watch' docs",
            "git commit -m 'never pkill fm-watch'",
            "echo pkill fm-watch",
            "# pkill fm-watch",
            "pkill -f my-server",
            "pkill fm-watcher",
            "pkill -x watch",
            "killall node",
            "killall -r '^node'",
            "sudo -u pkill fm-watch",
            "timeout 5 fm-watch wait --kill",
            "kill 47110",
            "kill -0 1234",
            "kill $(pgrep node)",
            "pgrep -f fm-watch",
            "ps aux | grep fm-watch; echo 1 | xargs kill",
            "pgrep fm-watch || echo 12 | xargs kill",
            "cat skill.md | grep fm-watch",
            "pkill",
            "pkill -f ''",
            "cat <<'EOF' > skill.md\npkill fm-watch\nEOF\nls",
            "cat <<EOF\npkill fm-watch",
        ] {
            assert!(!hits(command, &target()), "{command}");
        }
    }

    proptest! {
        #[test]
        fn no_command_is_too_strange(command in "[kpil\\-f $()'\"`|;&#\\\\\na-z]{0,200}") {
            let _verdict = hits(&format!("kill {command}"), &target());
        }
    }

    /// Each of these once took seconds, or more memory than there is.
    #[test]
    fn a_long_command_is_looked_through_in_time() {
        for (piece, count) in [
            ("$(", 100_000),
            ("cat <<a\na\n", 20_000),
            ("cat <<a\n", 20_000),
            ("\"$(", 60_000),
            ("`", 200_000),
            ("eval ", 40_000),
            ("kill $(pgrep x) ", 12_000),
        ] {
            let command = format!("kill; {}", piece.repeat(count));
            assert!(!hits(&command, &target()), "{piece}");
            let in_the_end = format!("{}\npkill fm-watch", "cat <<a\na\n".repeat(1000));
            assert!(hits(&in_the_end, &target()));
        }
        for piece in ["(a*)*", "(x+x+)+", "((((.{1,500}){1,500}){1,500}){1,500})"] {
            let _verdict = hits(&format!("pkill -f '{piece}'"), &target());
            assert!(!hits(&format!("pkill -f '{}'", piece.repeat(20_000)), &target()));
            assert!(!hits(&format!("killall -r '{}'", piece.repeat(20_000)), &target()));
        }
    }

    #[test]
    fn deep_nesting_ends() {
        let command = format!("{}pkill fm-watch{}", "$(".repeat(10_000), ")".repeat(10_000));
        assert!(!hits(&command, &target()));
    }
}

//! Files as people, editors and other programs write them.

// What is put together here is short and read by nobody who waits.
#![expect(clippy::format_push_string, reason = "texts for tests, made up by the thousand")]

/// A source of numbers that is the same in every run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        // Splitmix64, by its published constants.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    pub(super) fn is(&mut self, one_in: usize) -> bool {
        self.roll(one_in) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// How one file is written.
pub(super) struct Hand {
    pub(super) dice: Dice,
    line_end: &'static str,
    unit: &'static str,
    is_minified: bool,
    comments_one_in: usize,
    ends_lists_in_commas: bool,
}

impl Hand {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        Self {
            line_end: dice.pick(&["\n", "\n", "\r\n"]),
            unit: dice.pick(&["  ", "    ", "\t", "", "   "]),
            is_minified: dice.is(5),
            comments_one_in: dice.pick(&[usize::MAX, usize::MAX, 30, 4]),
            ends_lists_in_commas: dice.is(4),
            dice,
        }
    }

    /// What stands between two tokens.
    fn gap(&mut self, depth: usize) -> String {
        let comment = if self.dice.is(self.comments_one_in) {
            let line = format!("// ] }} , \" ü \u{1f600}{}", self.line_end);
            match self.dice.roll(3) {
                0 => "/* } ] , \" // */".to_owned(),
                1 => format!("/*{} * many lines{} */", self.line_end, self.line_end),
                _ => line,
            }
        } else {
            String::new()
        };
        let lead = if self.is_minified { String::new() } else { self.line_end.to_owned() + &self.unit.repeat(depth) };
        let odd = if self.dice.is(20) { self.dice.pick(&[" ", "\t", "\n\n\n", "\r\n", "      "]) } else { "" };
        format!("{odd}{comment}{lead}")
    }

    fn list(&mut self, [open, close]: [&str; 2], depth: usize, items: Vec<String>) -> String {
        if items.is_empty() {
            let inner = self.dice.pick(&["", " ", self.line_end, "/* nothing */", "\t"]);
            let inner = if self.comments_one_in == usize::MAX { inner.trim_matches(['/', '*', 'n']) } else { inner };
            return if inner.contains("othing") { format!("{open}{close}") } else { format!("{open}{inner}{close}") };
        }
        let mut text = open.to_owned();
        let count = items.len();
        for (number, item) in items.into_iter().enumerate() {
            text += &(self.gap(depth + 1) + &item);
            if self.dice.is(self.comments_one_in) {
                text += " /* before the comma */ ";
            }
            if number + 1 < count || self.ends_lists_in_commas {
                text.push(',');
            }
        }
        text + &self.gap(depth) + close
    }

    fn member(&mut self, name: &str, value: &str) -> String {
        let colon = if self.is_minified { ":" } else { self.dice.pick(&[": ", ":", " : "]) };
        format!("\"{name}\"{colon}{value}")
    }

    fn value(&mut self, depth: usize) -> String {
        let kind = if depth > 6 { self.dice.roll(4) } else { self.dice.roll(7) };
        match kind {
            0 => self.dice.pick(&["1", "-0.5e3", "true", "false", "null", "12345678901"]).to_owned(),
            1 => "\"fm-watch hook --harness codex --event turn-end; mine\"".to_owned(),
            2 => self
                .dice
                .pick(&["\"\"", "\"ü 漢 \u{1f600}\"", "\"\\u00fc\\n\\\"}\"", "\"// no\"", "\"/* no */\""])
                .to_owned(),
            3 => "\"MARK\"".to_owned(),
            4 => {
                let levels = self.dice.roll(40);
                format!("{}{}", "[".repeat(levels), "]".repeat(levels)) + if levels == 0 { "0" } else { "" }
            }
            5 => {
                let items = (0..self.dice.roll(4)).map(|_| self.value(depth + 1)).collect();
                self.list(["[", "]"], depth, items)
            }
            _ => {
                // Names may be there twice.
                let items = (0..self.dice.roll(4)).map(|_| self.setting(depth + 1)).collect();
                self.list(["{", "}"], depth, items)
            }
        }
    }

    fn setting(&mut self, depth: usize) -> String {
        let name = self.dice.pick(&["model", "a", "ü", "command", "nested \\\" name", "permissions"]);
        let value = self.value(depth);
        self.member(name, &value)
    }

    /// What another tool has at a moment.
    fn foreign(&mut self, depth: usize) -> String {
        let command = self.dice.pick(&[
            "\"other-tool --on-stop\"",
            "\"fm-watch hook --harness claude --event turn-end && mine\"",
            "\"echo '// \\\\\\\" ]}'\"",
        ]);
        let handler = format!("{{\"type\": \"command\", \"command\": {command}}}");
        match self.dice.roll(4) {
            0 => handler,
            1 => self.value(depth),
            _ => {
                let count = self.dice.roll(3);
                let handlers = self.list(["[", "]"], depth + 1, vec![handler; count]);
                let members = vec!["\"matcher\": \"x|y\"".to_owned(), self.member("hooks", &handlers)];
                self.list(["{", "}"], depth, members)
            }
        }
    }

    fn hooks(&mut self) -> String {
        let names = [
            "SessionStart",
            "Stop",
            "PreToolUse",
            "UserPromptSubmit",
            "sessionStart",
            "stop",
            "beforeShellExecution",
            "BeforeTool",
            "AfterAgent",
            "Other",
        ];
        let first = self.dice.roll(names.len());
        let members = (0..self.dice.roll(5))
            .map(|number| {
                let groups = (0..self.dice.roll(4)).map(|_| self.foreign(3)).collect();
                let list = self.list(["[", "]"], 2, groups);
                self.member(names[(first + number * 3) % names.len()], &list)
            })
            .collect();
        self.list(["{", "}"], 1, members)
    }

    pub(super) fn json(&mut self) -> String {
        let mut members: Vec<String> = (0..self.dice.roll(5)).map(|_| self.setting(1)).collect();
        if self.dice.is(2) {
            let (at, hooks) = (self.dice.roll(members.len() + 1), self.hooks());
            members.insert(at, self.member("hooks", &hooks));
        }
        if self.dice.is(4) {
            let at = self.dice.roll(members.len() + 1);
            members.insert(at, "\"version\": 1".to_owned());
        }
        let lead = if self.dice.is(8) { self.gap(0) } else { String::new() };
        let end = self.dice.pick(&["", "\n", "\r\n", "\n\n \n"]);
        let mark = if self.dice.is(6) { "\u{feff}" } else { "" };
        format!("{mark}{lead}{}{end}", self.list(["{", "}"], 0, members))
    }

    pub(super) fn toml(&mut self) -> String {
        let end = self.line_end;
        let comment = |hand: &mut Self| hand.dice.pick(&["", "", " # why ] }", "\t# ü \u{1f600}"]);
        let mut text = self.dice.pick(&["", "", "\u{feff}"]).to_owned();
        for number in 0..self.dice.roll(5) {
            let (name, value) = (self.dice.pick(&["a", "\"ü b\"", "model", "'q'"]), self.dice.pick(&VALUES));
            text += &format!("{name}.k{number} = {value}{}{end}", comment(self));
            text += self.dice.pick(&["", "", "\n", "# alone\n", "  \r\n", "# >>> fm-watch: hooks?\n"]);
        }
        match self.dice.roll(5) {
            0 => text += &format!("hooks = []{}{end}", comment(self)),
            1 => {
                let items = vec!["{ event = \"Stop\", command = \"mine # ]\" }"; 1 + self.dice.roll(3)];
                let between = self.dice.pick(&[", ", ",", ",\n  ", " , # why\n\t"]);
                let last = self.dice.pick(&["", ",", ", # last\n", "\n"]);
                text += &format!("hooks = [{}{last}]{}{end}", items.join(between), comment(self));
            }
            _ => {}
        }
        let has_list = text.contains("hooks = [");
        for number in 0..self.dice.roll(4) {
            text += &match self.dice.roll(3) {
                0 if !has_list => format!("[[hooks]]{}{end}event = \"Stop\"{end}command = 'mine'{end}", comment(self)),
                1 => format!("[[other.x]]{end}y = {}{end}", self.dice.pick(&VALUES)),
                _ => format!("[t{number}]{}{end}  x = {}{end}", comment(self), self.dice.pick(&VALUES)),
            };
            text += self.dice.pick(&["", "\n", "# alone\n"]);
        }
        if self.dice.is(3) { text.trim_end_matches(['\r', '\n']).to_owned() } else { text }
    }
}

const VALUES: [&str; 7] = [
    "1",
    "\"MARK\"",
    "'''\n[[hooks]]\n# not a comment\n'''",
    "[1,\n  2, # two\n]",
    "{ a = [1], b.c = 'x' }",
    "1979-05-27",
    "\"\"\"\n# <<< fm-watch: hooks\n\"\"\"",
];

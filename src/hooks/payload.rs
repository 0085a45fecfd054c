//! What a harness says to its hook, read with suspicion.
//!
//! It is one JSON object on stdin; unknown fields are ignored and any known one may be missing. A payload that is too
//! long, late or broken says nothing at all: half of one could hide the mark by which another harness is recognised.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::harness::Harness;
use crate::base::escape::hexadecimal;
use crate::system::program::single_quoted;

/// A longer payload is not read to its end.
pub const LIMIT: usize = 256 * 1024;

/// What came on stdin.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Nothing.
    Empty,
    /// Something, but no JSON object; why not.
    Broken(String),
    /// A JSON object.
    Object(Payload),
}

/// A JSON object from a harness.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    fields: Map<String, Value>,
}

/// Reads a payload. Never fails: what cannot be understood is an answer too.
pub fn parse(bytes: &[u8]) -> Reading {
    if bytes.len() > LIMIT {
        return Reading::Broken(format!("the payload is longer than {LIMIT} bytes"));
    }
    // Some shells on some systems put a byte order mark first.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
    if bytes.is_empty() {
        return Reading::Empty;
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Reading::Object(Payload { fields }),
        Ok(_) => Reading::Broken("the payload is no JSON object".to_owned()),
        Err(error) => Reading::Broken(format!("the payload is no JSON: {error}")),
    }
}

impl Payload {
    /// Whether there is a field of this name.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// A field that is text and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The name of the event, in lower case and without `_`, so that the spellings of all harnesses are one.
    pub fn event(&self) -> Option<String> {
        let name = self.text("hook_event_name").or_else(|| self.text("hookEventName"))?;
        Some(
            name.chars()
                .filter(|&character| character != '_')
                .map(|character| character.to_ascii_lowercase())
                .collect(),
        )
    }

    /// The session, as a key that is safe as a file name and says nothing about the session itself.
    pub fn session(&self, harness: Harness) -> Option<SessionKey> {
        let id = harness.profile().session_fields.iter().find_map(|name| self.text(name))?;
        Some(SessionKey::of(harness, id))
    }

    /// Why a session starts, in the harness's word.
    pub fn source(&self) -> Option<&str> {
        self.text("source")
    }

    /// Whether it is about an agent inside the session's agent, which answers to its parent and to nobody else.
    pub fn is_of_a_sub_agent(&self) -> bool {
        self.text("agent_id").is_some() || self.text("agentId").is_some()
    }

    /// How often this turn was already held, as far as the harness tells. It is true for other hooks' holds as well.
    pub fn holds_before(&self) -> u32 {
        let is_active = |name: &&str| self.fields.get(*name).and_then(Value::as_bool) == Some(true);
        let flag = u32::from(["stop_hook_active", "stopHookActive"].iter().any(is_active));
        let count = self.fields.get("loop_count").and_then(Value::as_u64).unwrap_or(0);
        flag.max(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Whether the turn ends because somebody or something broke it off: nobody wants it to go on then.
    pub fn is_broken_off(&self) -> bool {
        let is_cursor_end = |status: &str| matches!(status, "aborted" | "error");
        let is_grok_end = |reason: &str| matches!(reason, "channel_closed" | "shutdown");
        self.text("status").is_some_and(is_cursor_end) || self.text("reason").is_some_and(is_grok_end)
    }

    /// The command that a tool is about to give to a shell. What an editor is about to write into a file is none, though some
    /// call it that.
    pub fn command(&self) -> Option<String> {
        let tool = ["tool_name", "toolName"].iter().find_map(|name| self.text(name)).unwrap_or_default();
        let tool = tool.to_ascii_lowercase();
        if ["patch", "edit", "write"].iter().any(|part| tool.contains(part)) {
            return None;
        }
        let input = ["tool_input", "toolInput"].iter().find_map(|name| self.fields.get(*name));
        let command = input.and_then(|input| input.get("command").or_else(|| input.get("cmd")));
        match command.or_else(|| self.fields.get("command"))? {
            Value::String(text) => Some(text.clone()),
            // A list of words that no shell sees.
            Value::Array(words) => {
                Some(words.iter().filter_map(Value::as_str).map(single_quoted).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        }
    }
}

/// A session of a harness, in 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(String);

impl SessionKey {
    /// The key of a session by its harness and its harness's own name for it.
    pub fn of(harness: Harness, id: &str) -> Self {
        let digest = Sha256::new().chain_update(harness.word()).chain_update([0]).chain_update(id).finalize();
        Self(hexadecimal(&digest[..16]))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Payload {
        match parse(text.as_bytes()) {
            Reading::Object(payload) => payload,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_object_says_nothing() {
        assert_eq!(parse(b""), Reading::Empty);
        assert_eq!(parse(b" \n\t"), Reading::Empty);
        assert_eq!(parse(b"\xef\xbb\xbf"), Reading::Empty);
        for broken in [&b"{"[..], b"[]", b"7", b"null", b"\"{}\"", b"\xff\xfe", b"{} {}", b"{\"a\":1,}"] {
            assert!(matches!(parse(broken), Reading::Broken(_)), "{broken:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(format!("{{\"a\":{deep}").as_bytes()), Reading::Broken(_)));
        assert!(matches!(parse(&vec![b' '; LIMIT + 1]), Reading::Broken(_)));
        assert!(matches!(parse(b"\xef\xbb\xbf{}"), Reading::Object(_)));
    }

    #[test]
    fn fields_of_a_wrong_type_are_missing() {
        let payload =
            object(r#"{"session_id":7,"stop_hook_active":"true","loop_count":-1,"tool_input":[],"command":{}}"#);
        assert_eq!(payload.session(Harness::Claude), None);
        assert_eq!(payload.holds_before(), 0);
        assert_eq!(payload.command(), None);
    }

    #[test]
    fn a_session_is_known_by_the_field_of_its_harness() {
        let payload = object(r#"{"conversation_id":"c","session_id":"s","sessionId":"g"}"#);
        let key = |harness| payload.session(harness);
        assert_eq!(key(Harness::Cursor), Some(SessionKey::of(Harness::Cursor, "c")));
        assert_eq!(key(Harness::Claude), Some(SessionKey::of(Harness::Claude, "s")));
        assert_eq!(key(Harness::Grok), Some(SessionKey::of(Harness::Grok, "g")));
        assert_ne!(key(Harness::Claude), key(Harness::Codex));
        assert_eq!(SessionKey::of(Harness::Claude, "../../x").as_str().len(), 32);
    }

    #[test]
    fn earlier_holds_are_counted_from_each_harness() {
        assert_eq!(object(r#"{"stop_hook_active":true}"#).holds_before(), 1);
        assert_eq!(object(r#"{"stopHookActive":true}"#).holds_before(), 1);
        assert_eq!(object(r#"{"loop_count":3}"#).holds_before(), 3);
        assert_eq!(object("{}").holds_before(), 0);
    }

    #[test]
    fn a_command_is_found_where_each_harness_puts_it() {
        assert_eq!(object(r#"{"tool_input":{"command":"ls"}}"#).command().as_deref(), Some("ls"));
        assert_eq!(object(r#"{"toolInput":{"command":"ls"}}"#).command().as_deref(), Some("ls"));
        assert_eq!(object(r#"{"command":"ls"}"#).command().as_deref(), Some("ls"));
        let patch = r#"{"tool_name":"apply_patch","tool_input":{"command":"*** Begin Patch\n pkill fm-watch\n"}}"#;
        assert_eq!(object(patch).command(), None, "the text of a file");
        assert_eq!(object(r#"{"tool_input":{"command":["a b","c"]}}"#).command().as_deref(), Some("'a b' 'c'"));
    }
}

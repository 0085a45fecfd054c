//! What can be told about whoever has the lock.
//!
//! It says why the marker counts as held, and where only a person can go on, the exact command, for a marker that nobody
//! can judge stays for ever.

use std::path::Path;
use std::time::Duration;

use super::marker::{self, Content, Marker};
use super::observation;
use super::staleness::{Held, Verdict};
use crate::base::escape;
use crate::lock::Holder;
use crate::lock::location::Location;
use crate::system::World;
use crate::system::identity::{Proof, Sameness};
use crate::system::program::single_quoted;

/// What is known of the holder of the marker at a lock's name. `hindrance`: why it was not taken although it may be.
pub(super) fn holder<W: World>(location: &Location<W>, hindrance: Option<&str>) -> Holder {
    let marker = match marker::read(location, &location.name) {
        Ok(Some(marker)) => marker,
        Ok(None) => return Holder::unknown("it has just let go"),
        Err(error) => {
            let why = format!("its record cannot be read: {error}");
            return Holder { remedy: Some(removal(&location.path, &why, None)), ..Holder::unknown(why) };
        }
    };
    let verdict = observation::verdict(&*location.world, &marker.content);
    let since = location.age(marker.facts.mtime_ns);
    let known = match &marker.content {
        Content::Record(record) => Holder { pid: Some(record.pid), ..Holder::unknown("") },
        _ => Holder::unknown(""),
    };
    let host = match (&marker.content, &verdict) {
        (Content::Record(record), Verdict::Held(Held::OtherHost)) => Some(escape::line(&record.host)),
        _ => None,
    };
    let remedy = remedy(&verdict, &marker, hindrance).map(|why| removal(&location.path, &why, since));
    Holder { host, since, identity: identity(verdict, hindrance), remedy, ..known }
}

fn identity(verdict: Verdict, hindrance: Option<&str>) -> Sameness {
    let unknown = |why: &str| Sameness::Unknown(why.to_owned());
    match verdict {
        Verdict::Held(held) => match held {
            Held::ByOwner => Sameness::Same(Proof::Start),
            Held::ByPid => unknown("a process has that pid; its record does not tell when the holder started"),
            Held::StartUnreadable => unknown("a process has that pid; when it started cannot be read here"),
            Held::Elsewhere => unknown("the holder runs in another pid namespace"),
            Held::OtherHost => {
                unknown("on another machine or in another pid namespace, of which nothing is known here")
            }
            Held::Empty => unknown("the marker is empty"),
            Held::Strict => unknown("filelock's strict lock is in use at this path"),
            Held::Unknown(why) => Sameness::Unknown(format!("whether the holder lives cannot be told: {why}")),
        },
        Verdict::Gone { how, .. } => Sameness::Different(how),
        Verdict::Malformed { why, .. } => Sameness::Unknown(match hindrance {
            Some(hindrance) => format!("the marker {why}; {hindrance}"),
            None => format!("the marker {why}; it is taken when it stays as it is for two seconds"),
        }),
    }
}

/// Why only a person can free the lock, if that is so.
fn remedy(verdict: &Verdict, marker: &Marker, hindrance: Option<&str>) -> Option<String> {
    match verdict {
        Verdict::Held(Held::Empty) => Some("the marker is empty".to_owned()),
        Verdict::Held(Held::Strict) => Some("it belongs to filelock's strict lock".to_owned()),
        Verdict::Held(Held::OtherHost) => match &marker.content {
            Content::Record(record) => {
                Some(format!("nobody here can see pid {} on {}", record.pid, escape::line(&record.host)))
            }
            _ => None,
        },
        Verdict::Held(_) => None,
        Verdict::Gone { .. } | Verdict::Malformed { .. } => hindrance.map(str::to_owned),
    }
}

fn removal(path: &Path, why: &str, since: Option<Duration>) -> String {
    let age = since.map(|since| {
        let whole = Duration::from_secs(since.as_secs());
        format!(", and is {} old", humantime::format_duration(whole))
    });
    format!(
        "{why}{}; if you know that no program holds it: rm -- {}",
        age.unwrap_or_default(),
        single_quoted(&path.to_string_lossy())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_path_as_one_word() {
        let told = removal(Path::new("/a b/it's"), "the marker is empty", Some(Duration::from_millis(90_500)));
        assert_eq!(
            told,
            "the marker is empty, and is 1m 30s old; if you know that no program holds it: rm -- '/a b/it'\\''s'"
        );
    }
}

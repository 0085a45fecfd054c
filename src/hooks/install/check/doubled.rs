//! Whether something runs the entries more than once: the file itself, another file that the harness reads, or a command
//! that somebody made of one of ours.

use super::{Finding, Grade, Surroundings, has_entries};
use crate::hooks::harness::Harness;
use crate::hooks::install::file::{File, Way};
use crate::hooks::install::target::{Place, Scope};
use crate::hooks::install::{commands, entry};
use crate::system::World;

/// The other files from which a harness takes hooks too.
fn also_read(harness: Harness) -> &'static [Harness] {
    match harness {
        Harness::Cursor => &[Harness::Claude],
        Harness::Grok => &[Harness::Claude, Harness::Cursor],
        _ => &[],
    }
}

/// Whether a harness runs a command once that stands in its files more often.
fn runs_once(harness: Harness) -> bool {
    matches!(harness, Harness::Gemini | Harness::Kimi)
}

/// What runs the entries that were found besides.
pub(super) fn doubled<W: World>(
    world: &W,
    file: &File<W>,
    place: &Place,
    found: &[(String, String)],
    around: &Surroundings<'_>,
) -> Vec<Finding> {
    let mut findings = vec![elsewhere(world, file, place, found, around)];
    let content = file.content().unwrap_or_default();
    let all = commands(place, content).unwrap_or_default();
    findings.extend(all.iter().filter(|(_, command)| entry::is_like_ours(place.harness, command)).map(
        |(event, command)| {
            let text = format!("fm-watch did not write this one of {event}, and leaves it alone: {command}");
            Finding::new(Grade::Warn, "doubled", text).with("remove it by hand if it is not wanted")
        },
    ));
    findings
}

fn elsewhere<W: World>(
    world: &W,
    file: &File<W>,
    place: &Place,
    found: &[(String, String)],
    around: &Surroundings<'_>,
) -> Finding {
    let mut once: Vec<_> = found.iter().collect();
    once.sort();
    once.dedup();
    // One file may be found by two paths.
    let is_another = |other: &Place| {
        let real = File::find(world, &other.path, Way::Leave).ok().flatten().map(|other| other.path().to_owned());
        real.is_some_and(|real| real != file.path()) && has_entries(world, other).unwrap_or(false)
    };
    let places = |harness: Harness| {
        let place = move |scope| Place::of(harness, scope, around.environment, around.project).ok();
        Scope::ALL.into_iter().filter_map(place)
    };
    let own = places(place.harness).find(is_another);
    let cross = also_read(place.harness).iter().flat_map(|harness| places(*harness)).find(is_another);
    let is_twice = once.len() < found.len() || own.is_some();
    if is_twice && runs_once(place.harness) {
        let text = format!("there twice, but {} runs the same command only once", place.harness.title());
        Finding::new(Grade::Pass, "doubled", text)
    } else if once.len() < found.len() {
        let text = "an entry is there twice, so it runs twice";
        Finding::new(Grade::Warn, "doubled", text).with(place.command_line("install"))
    } else if let Some(other) = own {
        let text = format!("{} has entries as well, so each of them runs twice", other.path.display());
        Finding::new(Grade::Warn, "doubled", text).with(place.command_line("uninstall"))
    } else if let Some(other) = cross {
        let (title, path, names) = (place.harness.title(), other.path.display(), other.harness.title());
        let text = format!("{title} may also run the entries for {names} in {path}; they know it and stay silent");
        Finding::new(Grade::Pass, "doubled", text)
    } else {
        Finding::new(Grade::Pass, "doubled", "no other file that it reads has entries")
    }
}

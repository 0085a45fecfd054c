//! A service in a home that a shell watcher holds: it stands by, and the home is never left to nobody.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::firstmate_view::Fleet;
use crate::support::home::finish;
use crate::support::manager::Manager;
#[cfg(feature = "sync-points")]
use crate::support::sync::without;
use crate::support::{Background, SOON, Skip, stays_true, wait_until, wait_until_true};

cases! {
    a_service_stands_by_behind_a_shell_watcher_and_takes_the_home_when_it_ends,
    a_service_that_stands_by_gives_the_signs_of_life_that_its_manager_wants,
    #[cfg(feature = "sync-points")]
    without_standing_by_nobody_watches_after_the_wake_of_a_shell_watcher,
    a_service_takes_the_home_of_a_shell_watcher_that_was_killed,
    a_service_stands_by_behind_one_shell_watcher_after_the_other,
    a_service_that_stands_by_leaves_at_once_when_it_is_asked,
    a_service_that_stands_by_leaves_when_a_person_stops_the_shell_watcher,
    what_a_service_hears_while_it_stands_by_counts_afterwards,
    the_service_has_the_home_whoever_was_faster,
    a_holder_that_nobody_can_prove_is_not_waited_for,
}

/// For so long a manager waits for a sign of life, on a machine however busy.
const LONG: Duration = Duration::from_secs(60);

/// A manager whose service stands by behind a shell watcher.
fn standing_by<'a>(fleet: &'a Fleet, shell: &Background) -> (Manager<'a>, u32) {
    let mut manager = Manager::new(&fleet.home, LONG);
    manager.start(|_| {});
    let service = manager.works_until_ready();
    let status = format!("standing by behind pid {}, this home's watcher of the shell scripts", shell.pid());
    manager.works_until("it says for whom it waits", |manager| manager.status == status);
    (manager, service)
}

/// A service without a manager that stands by behind a shell watcher.
fn alone(fleet: &Fleet, shell: &Background) -> Background {
    let service = fleet.home.spawn(&["run", "--take-over"]);
    let said = format!("standing by behind pid {}", shell.pid());
    wait_until_true(SOON, "it says for whom it waits", || service.stderr().contains(&said));
    service
}

/// Ends a shell watcher as its next wake does.
#[track_caller]
fn wake(fleet: &Fleet, shell: Background) {
    let path = fleet.home.state().join("FW_WAKE");
    // In one step, for it looks at any time.
    fs::write(path.with_extension("new"), "heartbeat\n").unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    assert_eq!(shell.finish(SOON).expect_code(0).stdout, "heartbeat\n", "nobody has signalled it");
    fs::remove_file(path).unwrap();
}

fn a_service_stands_by_behind_a_shell_watcher_and_takes_the_home_when_it_ends() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut shell = fleet.shell_watcher();
    let (mut manager, service) = standing_by(&fleet, &shell);
    assert!(shell.ended().is_none());
    assert_eq!((fleet.healthy(), fleet.home.owner()), (Some(shell.pid()), None));
    wake(&fleet, shell);
    manager.works_until("the service watches", |_| fleet.healthy() == Some(service));
    fleet.home.wait_until_watched_by(service);
    manager.works_until("it waits for nobody any more", |manager| manager.status.is_empty());
    assert_eq!((manager.starts, manager.kills), (1, 0));
    Ok(())
}

fn a_service_that_stands_by_gives_the_signs_of_life_that_its_manager_wants() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let path = fleet.home.scratch().join("manager");
    let ear = UnixDatagram::bind(&path).unwrap();
    ear.set_read_timeout(Some(SOON)).unwrap();
    let mut service = fleet.home.command(&["run", "--take-over"]);
    service.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let service = Background::spawn(service);
    let next = || {
        let mut buffer = [0; 4096];
        let length = ear.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let behind = format!("STATUS=standing by behind pid {}, this home's watcher of the shell scripts", shell.pid());
    assert_eq!(next(), format!("READY=1\nWATCHDOG=1\n{behind}"));
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    service.signal(Signal::TERM);
    let last = wait_until(SOON, "it says that it stops", || Some(next()).filter(|said| said != "WATCHDOG=1"));
    assert_eq!(last, "STOPPING=1");
    service.finish(SOON).expect_code(0);
    Ok(())
}

/// The twin: a service that finds a shell watcher is content.
#[cfg(feature = "sync-points")]
fn without_standing_by_nobody_watches_after_the_wake_of_a_shell_watcher() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let mut manager = Manager::new(&fleet.home, LONG);
    manager.start(|service| without(service, &["ServiceStandby"]));
    manager.works_until("it has left", |manager| manager.pid().is_none());
    wake(&fleet, shell);
    assert_eq!((manager.starts, fleet.home.verdict().as_str()), (1, "stopped"));
    Ok(())
}

fn a_service_takes_the_home_of_a_shell_watcher_that_was_killed() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let (mut manager, service) = standing_by(&fleet, &shell);
    shell.signal(Signal::KILL);
    shell.finish(SOON);
    manager.works_until("the service watches", |_| fleet.healthy() == Some(service));
    Ok(())
}

fn a_service_stands_by_behind_one_shell_watcher_after_the_other() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let first = fleet.shell_watcher();
    let (mut manager, service) = standing_by(&fleet, &first);
    // While it looks at nothing, the next shell watcher takes the home.
    manager.signal(Signal::STOP);
    wake(&fleet, first);
    let second = fleet.shell_watcher();
    manager.signal(Signal::CONT);
    let behind = format!("behind pid {}", second.pid());
    manager.works_until("it says that it waits for the next one", |manager| manager.status.contains(&behind));
    wake(&fleet, second);
    manager.works_until("the service watches", |_| fleet.healthy() == Some(service));
    assert_eq!(manager.starts, 1);
    Ok(())
}

fn a_service_that_stands_by_leaves_at_once_when_it_is_asked() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut shell = fleet.shell_watcher();
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let service = alone(&fleet, &shell);
        service.signal(signal);
        assert_eq!(service.finish(SOON).expect_code(code).stdout, "");
    }
    let (mut manager, _) = standing_by(&fleet, &shell);
    manager.signal(Signal::TERM);
    manager.works_until("it has left", |manager| manager.pid().is_none());
    assert_eq!(manager.starts, 1);
    assert!(shell.ended().is_none());
    assert_eq!((fleet.healthy(), fleet.home.owner()), (Some(shell.pid()), None));
    Ok(())
}

fn a_service_that_stands_by_leaves_when_a_person_stops_the_shell_watcher() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let (mut manager, _) = standing_by(&fleet, &shell);
    fleet.home.ask(&["stop"]).expect_code(0);
    shell.finish(SOON);
    manager.works_until("it has left", |manager| manager.pid().is_none());
    assert_eq!((manager.starts, fleet.home.verdict().as_str(), fleet.home.owner()), (1, "stopped", None));
    // Whoever starts it now wants a watcher.
    manager.start(|_| {});
    fleet.home.wait_until_watched_by(manager.works_until_ready());
    Ok(())
}

fn what_a_service_hears_while_it_stands_by_counts_afterwards() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let service = alone(&fleet, &shell);
    fleet.home.configure("poll = \"never\"\n");
    service.signal(Signal::HUP);
    stays_true(Duration::from_millis(300), "it goes on to wait", || fleet.healthy() == Some(shell.pid()));
    wake(&fleet, shell);
    wait_until(SOON, "it has tried to read its settings again", || {
        fleet.home.beat().filter(|beat| beat["degraded"].to_string().contains("settings not read again"))
    });
    assert_eq!(fleet.home.pid(), Some(service.pid()));
    Ok(())
}

fn the_service_has_the_home_whoever_was_faster() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let mut arm = fleet.home.spawn(&["arm"]);
    arm.wait_for_line("watcher: healthy");
    let service = alone(&fleet, &shell);
    wake(&fleet, shell);
    fleet.home.wait_until_watched_by(service.pid());
    assert!(arm.ended().is_none(), "whoever waits goes on waiting");
    fleet.home.write_status("task", "done\n");
    arm.finish(SOON).expect_code(0);
    Ok(())
}

fn a_holder_that_nobody_can_prove_is_not_waited_for() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut sleeper = fleet.home.bare("sleep");
    sleeper.arg("1000");
    let mut stranger = Background::spawn(sleeper);
    fleet.lay(stranger.pid(), "/another", None);
    let answer = finish(fleet.home.command(&["run", "--take-over"])).expect_code(1);
    assert!(answer.stderr.contains("serves the home /another"), "{answer:?}");
    assert!(stranger.ended().is_none());
    Ok(())
}

//! The calls of [`World`], each as one step on the stage.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::calls::{Answer, PID_NAMESPACE};
use super::node::{Both, In, Itself, SimNode};
use super::openings::Opening;
use super::processes::{Life, Number};
use super::{Machine, SimWorld};
use crate::base::failpoint::Failpoint;
use crate::system::FileSystem;
use crate::system::identity::{Observation, Pid, Standpoint};
use crate::system::{Claim, Exchange, Facts, Kind, Listing, LockTaker, Now, Open, Signal, World};

/// A pinned process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SimProcess(Number);

impl SimWorld {
    fn node(&self, opened: Answer<Opening>) -> io::Result<SimNode> {
        Ok(SimNode { stage: Arc::clone(&self.stage), opening: opened? })
    }

    fn at<T: super::told::Told>(
        &self,
        verb: &'static str,
        node: &SimNode,
        act: impl FnOnce(&mut Machine, Opening) -> Answer<T>,
    ) -> io::Result<T> {
        Ok(self.call(verb, &Itself(node), |machine, _| act(machine, node.opening))?)
    }

    fn at_lives<T: super::told::Told>(
        &self,
        verb: &'static str,
        node: &SimNode,
        act: impl FnOnce(&mut Machine, Opening) -> Answer<T>,
    ) -> io::Result<T> {
        Ok(self.call_about_lives(verb, &Itself(node), |machine, _| act(machine, node.opening))?)
    }

    fn named<T: super::told::Told>(
        &self,
        verb: &'static str,
        directory: &SimNode,
        name: &OsStr,
        act: impl FnOnce(&mut Machine, Opening) -> Answer<T>,
    ) -> io::Result<T> {
        Ok(self.call(verb, &In(directory, name), |machine, _| act(machine, directory.opening))?)
    }
}

impl World for SimWorld {
    type Node = SimNode;
    type Process = SimProcess;

    fn open_directory(&self, path: &Path) -> io::Result<SimNode> {
        let opened =
            self.call("open_directory", &path.display(), |machine, me| machine.open_directory(me, path.as_os_str()));
        self.node(opened)
    }
    fn open_directory_at(&self, directory: &SimNode, name: &OsStr) -> io::Result<SimNode> {
        let opened = self.call("open_directory_at", &In(directory, name), |machine, me| {
            machine.open_directory_at(me, directory.opening, name)
        });
        self.node(opened)
    }
    fn make_directory(&self, directory: &SimNode, name: &OsStr) -> io::Result<()> {
        let at = directory.opening;
        Ok(self
            .call_about_lives("make_directory", &In(directory, name), |machine, _| machine.make_directory(at, name))?)
    }
    fn open(&self, directory: &SimNode, name: &OsStr, how: Open) -> io::Result<SimNode> {
        let verb = match how {
            Open::Read => "open to read",
            Open::Lock => "open to lock",
            Open::Append => "open to append",
            Open::CreateNew => "create",
            Open::Pin => "open to pin",
        };
        let at = directory.opening;
        self.node(self.call_about_lives(verb, &In(directory, name), |machine, me| machine.open(me, at, name, how)))
    }
    fn facts(&self, node: &SimNode) -> io::Result<Facts> {
        self.at("facts", node, |machine, node| machine.facts(node))
    }
    fn facts_at(&self, directory: &SimNode, name: &OsStr) -> io::Result<Facts> {
        self.named("facts_at", directory, name, |machine, at| machine.facts_at(at, name))
    }
    fn facts_of_path(&self, path: &Path) -> io::Result<Facts> {
        Ok(self.call("facts_of_path", &path.display(), |machine, _| machine.facts_of_path(path.as_os_str()))?)
    }
    fn names(&self, directory: &SimNode) -> io::Result<Vec<OsString>> {
        self.at("names", directory, |machine, at| machine.names_in(at))
    }
    fn read_at(&self, node: &SimNode, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.at("read", node, |machine, node| machine.read_at(node, offset, buffer.len()))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
    fn append(&self, node: &SimNode, bytes: &[u8]) -> io::Result<usize> {
        self.at("append", node, |machine, node| machine.append(node, bytes))
    }
    fn sync_data(&self, node: &SimNode) -> io::Result<()> {
        self.at("sync_data", node, Machine::sync)
    }
    fn sync_all(&self, node: &SimNode) -> io::Result<()> {
        self.at("sync_all", node, Machine::sync)
    }
    fn rename(&self, directory: &SimNode, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(self.call("rename", &Both(directory, from, to), |machine, _| machine.rename(directory.opening, from, to))?)
    }
    fn link(&self, directory: &SimNode, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(self.call("link", &Both(directory, from, to), |machine, _| machine.link(directory.opening, from, to))?)
    }
    fn exchange(&self, directory: &SimNode, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        let at = directory.opening;
        Ok(self.call("exchange", &Both(directory, one, other), |machine, _| machine.exchange(at, one, other))?)
    }
    fn symlink(&self, directory: &SimNode, target: &OsStr, name: &OsStr) -> io::Result<()> {
        let at = directory.opening;
        Ok(self.call_about_lives("symlink", &Both(directory, target, name), |machine, _| {
            machine.symlink(at, target, name)
        })?)
    }
    fn read_link(&self, directory: &SimNode, name: &OsStr) -> io::Result<OsString> {
        self.named("read_link", directory, name, |machine, at| machine.read_link(at, name))
    }
    fn overwrite(&self, node: &SimNode, bytes: &[u8]) -> io::Result<()> {
        // Two system calls, between which anything can happen.
        self.at("overwrite", node, |machine, node| machine.write_at_start(node, bytes))?;
        self.at("set length", node, |machine, node| machine.set_length(node, bytes.len()))
    }
    fn may_write(&self, directory: &SimNode, name: &OsStr) -> io::Result<bool> {
        // Whoever runs the tests owns everything here and may write, unless the owner may not.
        Ok(self.facts_at(directory, name)?.mode & 0o200 != 0)
    }
    fn set_mode(&self, node: &SimNode, mode: u32) -> io::Result<()> {
        self.at("set_mode", node, |machine, node| machine.set_mode(node, mode))
    }
    fn remove_directory(&self, directory: &SimNode, name: &OsStr) -> io::Result<()> {
        self.named("remove_directory", directory, name, |machine, at| machine.remove_directory(at, name))
    }
    fn unlink(&self, directory: &SimNode, name: &OsStr) -> io::Result<()> {
        self.named("unlink", directory, name, |machine, at| machine.unlink(at, name))
    }
    fn file_system(&self, _node: &SimNode) -> io::Result<FileSystem> {
        Ok(FileSystem::Trusted("simulated"))
    }

    fn try_lock(&self, node: &SimNode) -> io::Result<Claim> {
        self.at_lives("try_lock", node, Machine::try_lock)
    }
    fn raise_mark(&self, node: &SimNode, kind: Kind) -> io::Result<()> {
        self.at_lives("raise_mark", node, |machine, node| machine.raise_mark(node, kind))
    }
    fn is_marked(&self, node: &SimNode) -> io::Result<bool> {
        self.at_lives("is_marked", node, Machine::is_marked)
    }
    fn publish_beat(&self, node: &SimNode, at: Duration) -> io::Result<()> {
        self.at_lives("publish_beat", node, |machine, node| machine.publish_beat(node, at))
    }
    fn published_beat(&self, node: &SimNode) -> io::Result<Option<Duration>> {
        self.at_lives("published_beat", node, Machine::published_beat)
    }
    fn lock_taker(&self, node: &SimNode) -> io::Result<LockTaker> {
        self.at_lives("lock_taker", node, |machine, node| machine.lock_taker(node))
    }

    fn now(&self) -> Now {
        let now = self.call("now", &"", |machine, _| Ok(Now { wall_ms: machine.wall_ms(), monotonic: machine.clock }));
        now.unwrap_or(Now { wall_ms: 0, monotonic: Duration::ZERO })
    }
    fn boot_id(&self) -> Option<String> {
        Some(super::stage::lock(&self.stage).machine().boot_id())
    }
    fn nonce(&self) -> io::Result<[u8; 16]> {
        Ok(self.call_privately("nonce", &"", |machine, me| Ok(machine.draw(me)))?)
    }
    fn own_pid(&self) -> u32 {
        super::stage::lock(&self.stage).machine().processes.get(self.me).map_or(0, |process| process.pid)
    }

    fn exists(&self, pid: u32) -> io::Result<bool> {
        Ok(self.call_about_lives("exists", &pid, |machine, _| Ok(machine.process_of(pid).is_some()))?)
    }
    fn start_ticks(&self, pid: u32) -> Option<u64> {
        self.call_about_lives("start_ticks", &pid, |machine, _| Ok(machine.start_ticks(pid))).unwrap_or_default()
    }
    fn processes(&self) -> io::Result<Vec<u32>> {
        Ok(self.call_about_lives("processes", &"", |machine, _| Ok(machine.pids()))?)
    }
    fn listing(&self, pid: u32) -> Option<Listing> {
        self.call_about_lives("listing", &pid, |machine, _| Ok(machine.listing(pid))).unwrap_or_default()
    }
    fn innermost_pid(&self, pid: u32) -> Option<u32> {
        let seen = self.call_about_lives("innermost_pid", &pid, |machine, _| Ok(machine.process_of(pid).map(|_| pid)));
        seen.unwrap_or_default()
    }
    fn standpoint(&self) -> Standpoint {
        Standpoint { boot_id: self.boot_id(), pid_namespace: Some(PID_NAMESPACE), time_namespace: None }
    }
    fn host_name(&self) -> Vec<u8> {
        b"simulated".to_vec()
    }
    fn has_common_start_times(&self) -> bool {
        true
    }

    fn pin(&self, pid: Pid) -> io::Result<Option<SimProcess>> {
        Ok(self.call_about_lives("pin", &pid, |machine, _| Ok(machine.process_of(pid.get())))?.map(SimProcess))
    }
    fn observe(&self, process: &SimProcess) -> Observation {
        let seen = self.call_about_lives("observe", &process.0, |machine, _| Ok(machine.observe(process.0)));
        seen.unwrap_or(Observation::Gone)
    }
    fn signal(&self, process: &SimProcess, _signal: Signal) -> io::Result<bool> {
        Ok(self.call_about_lives("signal", &process.0, |machine, _| Ok(machine.kill(process.0)))?)
    }
    fn wait_for_exit(&self, process: &SimProcess, at_most: Duration) -> io::Result<bool> {
        let has_ended = || {
            self.call_about_lives("has ended", &process.0, |machine, _| {
                Ok(machine.processes[process.0].life != Life::Living)
            })
        };
        if has_ended()? {
            return Ok(true);
        }
        self.pause(at_most);
        Ok(has_ended()?)
    }

    fn pause(&self, at_most: Duration) {
        let text = at_most.as_nanos();
        let _unless_left = self.call_privately("pause", &text, |machine, me| {
            machine.processes[me].sleeps_until = machine.clock + at_most.max(machine.nature.shortest_pause);
            Ok(())
        });
        self.let_time_pass();
    }
    fn reach(&self, step: Failpoint) -> io::Result<()> {
        // Nobody can notice it, so nothing happens here that could not happen at the next step.
        Ok(self.call_privately("reach", &step.name(), |_, _| Ok(()))?)
    }
    fn is_protected(&self, protection: Failpoint) -> bool {
        !super::stage::lock(&self.stage).machine().nature.removed.contains(&protection)
    }
}

impl SimWorld {
    /// Where nobody decides who goes on, a pause is simply over.
    fn let_time_pass(&self) {
        let mut stage = super::stage::lock(&self.stage);
        if stage.is_open_to_all() {
            stage.machine().wait_for(self.me);
        }
    }
}

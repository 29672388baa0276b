//! What is durable of a disk, what is not yet, and what a crash makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Act, Tree};
use crate::testing::dice::Dice;

/// More states at one moment than this are no script but a test gone wild.
const STATES_MAX: usize = 60_000;
/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

type Inode = usize;
type Names = BTreeMap<String, Inode>;

/// A disk and the memory above it.
#[derive(Clone, Debug)]
pub struct Machine {
    inodes: Vec<Node>,
    promised: u64,
    /// The file that the last act wrote to.
    writing: Option<Inode>,
}

/// Which writes may be torn. The last one of a file that is not known to be durable always can; of writes that wait for a sync in several
/// files at once it is too many states to look at, so there all are only where one state is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Torn {
    /// The one that the last act made, and those whose sync failed.
    LastOrAdrift,
    /// That of every file.
    All,
}

#[derive(Clone, Debug)]
enum Node {
    File(Content),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    /// In order; whether a change is on the disk, is not known before it is durable.
    changes: Vec<(Change, Fate)>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Arc<[u8]>),
    Cut(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The next sync makes it durable.
    Pending,
    /// Its sync failed: no later one makes it durable.
    Adrift,
    Durable,
}

#[derive(Clone, Debug, Default)]
struct Folder {
    durable: Names,
    changes: Vec<Renaming>,
    /// As a process sees it.
    present: Names,
}

/// A change of names in one folder, which happens at once.
#[derive(Clone, Debug)]
struct Renaming {
    gone: Option<String>,
    come: Option<(String, Inode)>,
}

impl Machine {
    /// Returns the machine on whose disk `tree` is durable.
    pub fn of(tree: &Tree) -> Machine {
        let root = Node::Folder(Folder::default());
        let mut machine = Machine { inodes: vec![root], promised: 0, writing: None };
        for (path, content) in &tree.0 {
            let node = match content {
                None => Node::Folder(Folder::default()),
                Some(bytes) => Node::File(Content { durable: bytes.to_vec(), changes: Vec::new() }),
            };
            machine.name(path, node);
        }
        for node in &mut machine.inodes {
            if let Node::Folder(folder) = node {
                folder.sync();
            }
        }
        machine
    }

    /// Returns what was promised last.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// Does `act`.
    pub fn apply(&mut self, act: &Act) {
        self.writing = None;
        match act {
            Act::Create(path) => self.name(path, Node::File(Content::default())),
            Act::MakeFolder(path) => self.name(path, Node::Folder(Folder::default())),
            Act::Write { path, at, bytes } => {
                let inode = self.find(path);
                self.content(inode).changes.push((Change::Write(*at, bytes.clone()), Fate::Pending));
                self.writing = Some(inode);
            }
            Act::Cut { path, length } => {
                let inode = self.find(path);
                self.content(inode).changes.push((Change::Cut(*length), Fate::Pending));
            }
            Act::Sync(path) => self.settle(path, Fate::Durable),
            Act::SyncFailed(path) => self.settle(path, Fate::Adrift),
            Act::Rename(from, to) => {
                let inode = self.find(from);
                let (folder, gone) = self.folder_of(from);
                let (_, come) = self.folder_of(to);
                assert_eq!(from.rsplit_once('/').map(|p| p.0), to.rsplit_once('/').map(|p| p.0), "within one folder");
                self.folder(folder).change(Renaming { gone: Some(gone), come: Some((come, inode)) });
            }
            Act::Link(from, to) => {
                let inode = self.find(from);
                let (folder, come) = self.folder_of(to);
                self.folder(folder).change(Renaming { gone: None, come: Some((come, inode)) });
            }
            Act::Remove(path) => {
                let (folder, gone) = self.folder_of(path);
                self.folder(folder).change(Renaming { gone: Some(gone), come: None });
            }
            Act::SyncFolder(path) => {
                let inode = self.find(path);
                self.folder(inode).sync();
            }
            Act::Promise(what) => self.promised = *what,
        }
    }

    fn name(&mut self, path: &str, node: Node) {
        self.inodes.push(node);
        let inode = self.inodes.len() - 1;
        let (folder, name) = self.folder_of(path);
        self.folder(folder).change(Renaming { gone: None, come: Some((name, inode)) });
    }

    fn settle(&mut self, path: &str, fate: Fate) {
        let inode = self.find(path);
        let content = self.content(inode);
        for (_, known) in content.changes.iter_mut().filter(|(_, known)| *known == Fate::Pending) {
            *known = fate;
        }
        let durable = content.changes.iter().take_while(|(_, fate)| *fate == Fate::Durable).count();
        for (change, _) in content.changes.drain(..durable) {
            change.apply(&mut content.durable);
        }
    }

    /// Returns the number of the change of a file that may be torn: its last write, unless that is durable.
    fn torn(&self, inode: Inode, which: Torn) -> Option<usize> {
        let Node::File(content) = &self.inodes[inode] else { return None };
        let is_write = |(change, _): &(Change, Fate)| matches!(change, Change::Write(..));
        let last = content.changes.iter().rposition(is_write)?;
        let may = match content.changes[last].1 {
            Fate::Durable => false,
            Fate::Adrift => true,
            Fate::Pending => which == Torn::All || self.writing == Some(inode),
        };
        may.then_some(last)
    }

    fn find(&self, path: &str) -> Inode {
        path.split('/').filter(|name| !name.is_empty()).fold(0, |inode, name| match &self.inodes[inode] {
            Node::Folder(folder) => *folder.present.get(name).unwrap_or_else(|| panic!("`{path}` is not there")),
            Node::File(_) => panic!("`{path}` leads through a file"),
        })
    }

    fn folder_of(&self, path: &str) -> (Inode, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.find(folder), name.to_owned())
    }

    fn content(&mut self, inode: Inode) -> &mut Content {
        match &mut self.inodes[inode] {
            Node::File(content) => content,
            Node::Folder(_) => panic!("a folder is no file"),
        }
    }

    fn folder(&mut self, inode: Inode) -> &mut Folder {
        match &mut self.inodes[inode] {
            Node::Folder(folder) => folder,
            Node::File(_) => panic!("a file is no folder"),
        }
    }

    /// Returns every state that a crash may leave now.
    pub fn states(&self) -> Vec<Tree> {
        self.trees(0).into_iter().map(Tree).collect()
    }

    fn trees(&self, inode: Inode) -> Vec<BTreeMap<String, Option<Arc<[u8]>>>> {
        let Node::Folder(folder) = &self.inodes[inode] else { panic!("a file is no folder") };
        let mut all = Vec::new();
        for names in folder.states() {
            let mut trees = vec![BTreeMap::new()];
            for (name, inode) in names {
                let below: Vec<BTreeMap<String, Option<Arc<[u8]>>>> = match &self.inodes[inode] {
                    Node::File(content) => {
                        let contents = content.states(self.torn(inode, Torn::LastOrAdrift));
                        contents.into_iter().map(|bytes| BTreeMap::from([(name.clone(), Some(bytes.into()))])).collect()
                    }
                    Node::Folder(_) => {
                        let under = |tree: BTreeMap<String, _>| {
                            let inside = tree.into_iter().map(|(path, content)| (format!("{name}/{path}"), content));
                            inside.chain([(name.clone(), None)]).collect()
                        };
                        self.trees(inode).into_iter().map(under).collect()
                    }
                };
                assert!(trees.len() * below.len() <= STATES_MAX, "too many states: make the script shorter");
                let with = |tree: &BTreeMap<_, _>| {
                    let tree = tree.clone();
                    below.iter().map(move |more| tree.clone().into_iter().chain(more.clone()).collect())
                };
                trees = trees.iter().flat_map(with).collect();
            }
            all.extend(trees);
        }
        all
    }

    /// Returns one of the states, or one with a torn write of a rarer kind.
    pub fn some_state(&self, dice: &mut Dice) -> Tree {
        let mut tree = Tree::default();
        // Often everything or nothing is there: what lies between is not the only danger.
        let keep = *dice.of(&[0, 1, 1, 2]);
        self.put_some(0, "", keep, dice, &mut tree);
        tree
    }

    fn put_some(&self, inode: Inode, prefix: &str, keep: u8, dice: &mut Dice, tree: &mut Tree) {
        let Node::Folder(folder) = &self.inodes[inode] else { panic!("a file is no folder") };
        let mut names = folder.durable.clone();
        for change in &folder.changes {
            if is_kept(keep, dice) {
                change.apply(&mut names);
            }
        }
        for (name, inode) in names {
            let path = format!("{prefix}{name}");
            match &self.inodes[inode] {
                Node::File(content) => {
                    let bytes = content.some_state(self.torn(inode, Torn::All), keep, dice);
                    tree.0.insert(path, Some(bytes.into()));
                }
                Node::Folder(_) => {
                    self.put_some(inode, &format!("{path}/"), keep, dice, tree);
                    tree.0.insert(path, None);
                }
            }
        }
    }

    /// Returns the disk as a process sees it.
    pub fn present(&self) -> Tree {
        let mut tree = Tree::default();
        self.put_present(0, "", &mut tree);
        tree
    }

    fn put_present(&self, inode: Inode, prefix: &str, tree: &mut Tree) {
        let Node::Folder(folder) = &self.inodes[inode] else { panic!("a file is no folder") };
        for (name, inode) in &folder.present {
            let path = format!("{prefix}{name}");
            match &self.inodes[*inode] {
                Node::File(content) => {
                    let mut bytes = content.durable.clone();
                    content.changes.iter().for_each(|(change, _)| change.apply(&mut bytes));
                    tree.0.insert(path, Some(bytes.into()));
                }
                Node::Folder(_) => {
                    self.put_present(*inode, &format!("{path}/"), tree);
                    tree.0.insert(path, None);
                }
            }
        }
    }
}

fn is_kept(keep: u8, dice: &mut Dice) -> bool {
    match keep {
        0 => false,
        1 => dice.one_in(2),
        _ => true,
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, new) => write(bytes, *at, new),
            Change::Cut(length) => bytes.resize(*length, 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    bytes.resize(bytes.len().max(at + new.len()), 0);
    bytes[at..at + new.len()].copy_from_slice(new);
}

impl Content {
    fn states(&self, torn: Option<usize>) -> Vec<Vec<u8>> {
        let mut states = BTreeSet::from([self.durable.clone()]);
        for (index, (change, fate)) in self.changes.iter().enumerate() {
            let mut next = BTreeSet::new();
            for state in states {
                let mut with = state.clone();
                change.apply(&mut with);
                next.insert(with);
                if let (true, Change::Write(at, bytes)) = (torn == Some(index), change) {
                    next.extend(torn_writes(&state, *at, bytes));
                }
                if *fate != Fate::Durable {
                    next.insert(state);
                }
            }
            assert!(next.len() <= STATES_MAX, "too many states: make the script shorter");
            states = next;
        }
        states.into_iter().collect()
    }

    fn some_state(&self, torn: Option<usize>, keep: u8, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (index, (change, fate)) in self.changes.iter().enumerate() {
            if let (true, Change::Write(at, new)) = (torn == Some(index), change)
                && dice.one_in(2)
                && !new.is_empty()
            {
                let split = dice.below(new.len());
                bytes = tear(&bytes, *at, new, split, *dice.of(&TEARS));
            } else if *fate == Fate::Durable || is_kept(keep, dice) {
                change.apply(&mut bytes);
            }
        }
        bytes
    }
}

/// What a torn write leaves where it did not come to.
#[derive(Clone, Copy, Debug)]
enum Tear {
    /// The file ends where the write was torn.
    Short,
    /// The file has its new length, with zeros.
    Zeros,
    /// The file has its new length, with whatever was on the disk before.
    Garbage,
    /// Only the end was written.
    Backwards,
}

const TEARS: [Tear; 4] = [Tear::Short, Tear::Zeros, Tear::Garbage, Tear::Backwards];

fn tear(before: &[u8], at: usize, new: &[u8], split: usize, kind: Tear) -> Vec<u8> {
    let mut bytes = before.to_vec();
    match kind {
        Tear::Short => write(&mut bytes, at, &new[..split]),
        Tear::Backwards => write(&mut bytes, at + split, &new[split..]),
        Tear::Zeros | Tear::Garbage => {
            // What was there before the write stays; only what the write adds to the file can hold anything else.
            let old = bytes.len();
            write(&mut bytes, at, &new[..split]);
            let end = at + new.len();
            if matches!(kind, Tear::Garbage) {
                let from = old.max(at + split);
                bytes.resize(bytes.len().max(end), 0);
                bytes[from.min(end)..end].fill(0xa5);
            } else {
                bytes.resize(bytes.len().max(end), 0);
            }
        }
    }
    bytes
}

/// Returns what is left of a write of `new` at `at` that was torn between sectors, or in the middle.
fn torn_writes(before: &[u8], at: usize, new: &[u8]) -> Vec<Vec<u8>> {
    let first = at.next_multiple_of(SECTOR);
    let sectors = (first..at + new.len()).step_by(SECTOR).map(|sector| sector - at).filter(|split| *split > 0);
    let mut torn: Vec<Vec<u8>> = Vec::new();
    for split in sectors.chain([new.len() / 2]) {
        torn.extend(TEARS.map(|kind| tear(before, at, new, split, kind)));
    }
    torn
}

impl Folder {
    fn change(&mut self, change: Renaming) {
        change.apply(&mut self.present);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.present.clone();
        self.changes.clear();
    }

    fn states(&self) -> BTreeSet<Names> {
        let mut states = BTreeSet::from([self.durable.clone()]);
        for change in &self.changes {
            let mut with = states.clone();
            for mut names in states {
                change.apply(&mut names);
                with.insert(names);
            }
            states = with;
        }
        states
    }
}

impl Renaming {
    fn apply(&self, names: &mut Names) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, inode)) = &self.come {
            names.insert(name.clone(), *inode);
        }
    }
}

//! Meshes of threads, and all that may come in at their doors.

use std::io::Write;
use std::net::Shutdown;
use std::path::Path;
use std::sync::Mutex;
use std::thread::JoinHandle;

use super::hello::{MAGIC, VERSION};
use super::socket::Socket;
use super::*;
use crate::testing::certificates::Authority;

/// After this something that should have happened did not.
const HUNG: Duration = Duration::from_secs(60);

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = now() + HUNG;
    while !there() {
        assert!(now() < deadline, "{what} never came");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub(super) fn config(folder: &Path, process: usize, processes: usize) -> MeshConfig {
    MeshConfig {
        job: "j".to_owned(),
        plan: "p".to_owned(),
        build: "b".to_owned(),
        generation: 7,
        place: Place { process, processes, workers: 1 },
        peers: (0..processes).map(|process| Address::Unix(folder.join(format!("p{process}")))).collect(),
        listen: None,
        tls: None,
        startup: HUNG,
        beat: Duration::from_millis(20),
        dead: Duration::from_secs(10),
    }
}

type Forming = JoinHandle<Result<Arc<Mesh>, MeshError>>;

fn start(config: MeshConfig, meter: Arc<MeshMeter>) -> Forming {
    std::thread::spawn(move || Mesh::form(&config, meter, &|| false))
}

pub(super) fn meter(config: &MeshConfig) -> Arc<MeshMeter> {
    MeshMeter::new(config.place.process, config.place.processes)
}

fn formed(folder: &Path, processes: usize) -> Vec<Arc<Mesh>> {
    let all: Vec<MeshConfig> = (0..processes).map(|process| config(folder, process, processes)).collect();
    let forming: Vec<Forming> = all.iter().rev().map(|config| start(config.clone(), meter(config))).collect();
    forming.into_iter().rev().map(|forming| forming.join().unwrap().unwrap()).collect()
}

/// Says one thing, and keeps what it hears.
#[derive(Default)]
struct Ear {
    says: Mutex<Vec<u8>>,
    words: Mutex<Vec<(usize, Vec<u8>)>>,
    lost: Mutex<Option<MeshError>>,
}

impl Ear {
    fn at(mesh: &Mesh, says: &str) -> Arc<Ear> {
        let ear = Arc::new(Ear { says: Mutex::new(says.into()), ..Ear::default() });
        mesh.attend(ear.clone());
        ear
    }

    fn has_heard(&self, from: usize, what: &str) -> bool {
        self.words.lock().unwrap().contains(&(from, what.into()))
    }

    fn lost(&self) -> Option<MeshError> {
        self.lost.lock().unwrap().clone()
    }
}

impl Voice for Ear {
    fn word(&self, _: usize) -> Vec<u8> {
        self.says.lock().unwrap().clone()
    }

    fn hear(&self, from: usize, heard: Heard) {
        match heard {
            Heard::Word(word) | Heard::Letter(word) => self.words.lock().unwrap().push((from, word)),
            Heard::Lost(error) => *self.lost.lock().unwrap() = Some(error),
        }
    }
}

/// The hello of process 1 of two.
fn hello() -> Hello {
    Hello {
        job: "j".into(),
        plan: "p".into(),
        build: "b".into(),
        generation: 7,
        process: 1,
        processes: 2,
        workers: 1,
        purpose: Purpose::Control,
        instance: 99,
    }
}

fn knock(folder: &Path) -> Socket {
    let address = Address::Unix(folder.join("p0"));
    let mut socket = None;
    until("the door", || {
        socket = address.connect(HUNG).ok();
        socket.is_some()
    });
    socket.unwrap()
}

fn refused(folder: &Path, hello: &Hello) -> &'static str {
    hello::call(&mut knock(folder), hello).unwrap_err().word()
}

/// Comes to the door of process 0 of two as everybody may come who is none of its peers.
fn strangers(folder: &Path) -> Vec<Socket> {
    // A probe of the port; eight bytes, an index to timely; a scrape that was set wrongly.
    drop(knock(folder));
    for bytes in [&[0, 0, 0, 0, 0, 0, 0, 9][..], b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"] {
        knock(folder).write_all(bytes).unwrap();
    }
    // Ours at first, and then not: another version, a length that cannot be, what is no JSON.
    for (version, length, body) in [(VERSION + 1, 0, &b""[..]), (VERSION, u16::MAX, b""), (VERSION, 3, b"{{{")] {
        let mut socket = knock(folder);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(body);
        socket.write_all(&bytes).unwrap();
        socket.close(Shutdown::Write).unwrap();
    }
    assert_eq!(refused(folder, &Hello { job: "k".into(), ..hello() }), "job");
    assert_eq!(refused(folder, &Hello { plan: "q".into(), ..hello() }), "plan");
    assert_eq!(refused(folder, &Hello { build: "c".into(), ..hello() }), "plan");
    assert_eq!(refused(folder, &Hello { generation: 6, ..hello() }), "older_generation");
    assert_eq!(refused(folder, &Hello { processes: 3, ..hello() }), "shape");
    assert_eq!(refused(folder, &Hello { workers: 2, ..hello() }), "shape");
    for process in [0, 2, usize::MAX] {
        assert_eq!(refused(folder, &Hello { process, ..hello() }), "number");
    }
    assert_eq!(refused(folder, &Hello { purpose: Purpose::Data, ..hello() }), "taken", "data comes after control");
    // Says nothing at all, and stays.
    vec![knock(folder)]
}

fn are_counted(meter: &MeshMeter, times: u64) {
    let counted = |word: &str| meter.rejected().get(word).copied().unwrap_or(0);
    for (word, each) in [("gone", 1), ("stranger", 2), ("version", 1), ("malformed", 2), ("job", 1), ("plan", 2)] {
        until(word, || counted(word) == each * times);
    }
    for (word, each) in [("older_generation", 1), ("shape", 2), ("number", 3), ("taken", 1)] {
        until(word, || counted(word) == each * times);
    }
}

#[test]
fn processes_find_each_other_and_talk() {
    let folder = tempfile::tempdir().unwrap();
    let meshes = formed(folder.path(), 3);
    meshes[0].say(2, &"first");
    meshes[0].say(2, &"second");
    assert_eq!(meshes[2].hear::<String>(0).unwrap(), "first");
    assert_eq!(meshes[2].hear::<String>(0).unwrap(), "second");
    let ears: Vec<Arc<Ear>> = meshes.iter().map(|mesh| Ear::at(mesh, &format!("p{}", mesh.place().process))).collect();
    for (own, ear) in ears.iter().enumerate() {
        for other in (0..3).filter(|other| *other != own) {
            until("a word", || ear.has_heard(other, &format!("p{other}")));
        }
    }
    *ears[1].says.lock().unwrap() = b"news".to_vec();
    meshes[1].nudge();
    until("news", || ears[0].has_heard(1, "news") && ears[2].has_heard(1, "news"));
    let data = meshes[1].take_data().unwrap();
    assert!(data[0].is_some() && data[1].is_none() && data[2].is_some() && meshes[1].take_data().is_none());
    // Those that end well are missed by nobody.
    meshes.iter().for_each(|mesh| mesh.end());
    drop(meshes);
    assert!(ears.iter().all(|ear| ear.lost().is_none()));
}

#[test]
fn nobody_who_comes_to_the_door_does_any_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (leader, follower) = (config(folder.path(), 0, 2), config(folder.path(), 1, 2));
    let counts = meter(&leader);
    let forming = start(leader, counts.clone());
    let mut silent = strangers(folder.path());
    are_counted(&counts, 1);
    let other = start(follower.clone(), meter(&follower)).join().unwrap().unwrap();
    let leader = forming.join().unwrap().unwrap();
    let (here, there) = (Ear::at(&leader, "0"), Ear::at(&other, "1"));
    silent.extend(strangers(folder.path()));
    assert_eq!(refused(folder.path(), &hello()), "taken", "one who plays the peer");
    assert_eq!(counts.rejected()["taken"], 2 + 1);
    let seen = here.words.lock().unwrap().len();
    until("more words", || here.words.lock().unwrap().len() > seen + 3 && there.has_heard(0, "0"));
    assert!(here.lost().is_none() && there.lost().is_none());
    assert!(counts.peers()[0].here && counts.expected() == 1);
}

#[test]
fn the_door_hears_so_many_at_once_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let leader = config(folder.path(), 0, 2);
    let counts = meter(&leader);
    let forming = start(leader, counts.clone());
    let crowd: Vec<Socket> = (0..80).map(|_| knock(folder.path())).collect();
    until("busy", || counts.rejected().get("busy").copied().unwrap_or(0) >= 16);
    drop(crowd);
    until("their end", || counts.rejected().get("gone").copied().unwrap_or(0) >= 64);
    let follower = config(folder.path(), 1, 2);
    let other = start(follower.clone(), meter(&follower)).join().unwrap().unwrap();
    assert_eq!(forming.join().unwrap().unwrap().place().process + other.place().process, 1);
}

/// Processes 0 and 1 of three, and one that plays the third: it has called the one, and not the other yet.
fn almost_formed(folder: &Path) -> (Arc<Mesh>, Forming) {
    let [leader, waiting] = [0, 1].map(|process| config(folder, process, 3));
    let forming = start(leader.clone(), meter(&leader));
    let other = start(waiting.clone(), meter(&waiting));
    let third = Hello { process: 2, processes: 3, ..hello() };
    let [mut control, mut data] = [(); 2].map(|()| knock(folder));
    hello::call(&mut control, &third).unwrap();
    hello::call(&mut data, &third.to(Purpose::Data)).unwrap();
    (forming.join().unwrap().unwrap(), other)
}

#[test]
fn one_who_waits_for_another_hears_that_the_mesh_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (leader, waiting) = almost_formed(folder.path());
    let ear = Ear::at(&leader, "0");
    until("the loss of the third", || ear.lost().is_some());
    leader.fail(2, "it was killed");
    let told = waiting.join().unwrap().map(drop);
    assert_eq!(told, Err(MeshError::Lost { process: 2, reason: "it was killed".into() }));
}

#[test]
fn one_who_waits_for_another_hears_all_of_one_that_ended_well_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (leader, waiting) = almost_formed(folder.path());
    leader.say(1, &"there is nothing to do");
    leader.end();
    drop(leader);
    // The third comes late.
    let third = Hello { process: 2, processes: 3, ..hello() };
    let address = Address::Unix(folder.path().join("p1"));
    let [mut control, mut data] = [(); 2].map(|()| address.connect(HUNG).unwrap());
    hello::call(&mut control, &third).unwrap();
    hello::call(&mut data, &third.to(Purpose::Data)).unwrap();
    let mesh = waiting.join().unwrap().unwrap();
    assert_eq!(mesh.hear::<String>(0).unwrap(), "there is nothing to do");
    assert!(mesh.hear::<String>(0).is_err(), "nothing follows");
}

#[test]
fn one_who_waits_for_another_calls_those_anew_that_are_gone_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (leader, waiting) = almost_formed(folder.path());
    drop(leader);
    let again =
        [0, 2].map(|process| config(folder.path(), process, 3)).map(|config| start(config.clone(), meter(&config)));
    let all: Vec<_> = again.into_iter().chain([waiting]).map(|forming| forming.join().unwrap().unwrap()).collect();
    let ears: Vec<Arc<Ear>> = all.iter().map(|mesh| Ear::at(mesh, &format!("p{}", mesh.place().process))).collect();
    until("words of all", || ears[2].has_heard(0, "p0") && ears[2].has_heard(2, "p2") && ears[0].has_heard(1, "p1"));
}

#[test]
fn a_newer_generation_ends_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let meshes = formed(folder.path(), 2);
    let ears: Vec<Arc<Ear>> = meshes.iter().map(|mesh| Ear::at(mesh, "x")).collect();
    assert_eq!(refused(folder.path(), &Hello { generation: 8, ..hello() }), "newer_generation");
    until("the end", || ears[0].lost().is_some());
    assert_eq!(ears[0].lost(), Some(MeshError::Superseded { own: 7, newer: 8 }));
    // One that comes too late is told so.
    let late = MeshConfig { generation: 6, ..config(folder.path(), 1, 2) };
    let late = MeshConfig { listen: Some(Address::Unix(folder.path().join("elsewhere"))), ..late };
    let Err(error) = Mesh::form(&late, meter(&late), &|| false) else { panic!("it is older") };
    assert_eq!(error, MeshError::Superseded { own: 6, newer: 7 });
}

#[test]
fn a_process_of_a_newer_generation_takes_the_address_of_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut meshes = formed(folder.path(), 2);
    let ear = Ear::at(&meshes[0], "x");
    let newer = MeshConfig { generation: 8, ..config(folder.path(), 0, 2) };
    let forming = start(newer.clone(), meter(&newer));
    until("the end", || ear.lost().is_some());
    meshes.clear();
    let other = MeshConfig { generation: 8, ..config(folder.path(), 1, 2) };
    let other = start(other.clone(), meter(&other)).join().unwrap().unwrap();
    assert_eq!(forming.join().unwrap().unwrap().place().processes, other.place().processes);
}

#[test]
fn one_who_falls_silent_is_lost_and_so_is_one_who_goes() {
    for silent in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let leader = MeshConfig { dead: Duration::from_millis(200), ..config(folder.path(), 0, 2) };
        let forming = start(leader.clone(), meter(&leader));
        let [mut control, mut data] = [(); 2].map(|()| knock(folder.path()));
        hello::call(&mut control, &hello()).unwrap();
        hello::call(&mut data, &hello().to(Purpose::Data)).unwrap();
        let mesh = forming.join().unwrap().unwrap();
        let ear = Ear::at(&mesh, "x");
        Frame { kind: FrameKind::Word, body: b"hi".to_vec() }.write(&mut control).unwrap();
        until("a word", || ear.has_heard(1, "hi"));
        if !silent {
            drop(control);
        }
        until("the loss", || ear.lost().is_some());
        let reason = ear.lost().unwrap().to_string();
        assert!(reason.contains(if silent { "frozen" } else { "closed" }), "{reason}");
    }
}

#[test]
fn the_others_hear_why_a_process_fails() {
    let folder = tempfile::tempdir().unwrap();
    let meshes = formed(folder.path(), 3);
    let ears: Vec<Arc<Ear>> = meshes.iter().map(|mesh| Ear::at(mesh, "x")).collect();
    meshes[1].fail(1, "sink `out`: the disk is full");
    let told = Some(MeshError::Lost { process: 1, reason: "sink `out`: the disk is full".into() });
    until("the reason", || ears[0].lost() == told && ears[2].lost() == told);
    assert!(ears[1].lost().is_none(), "who fails knows");
    let waiting = meshes[2].hear::<String>(0).unwrap_err();
    assert_eq!(Some(waiting), told, "nobody waits for what will not come");
}

#[test]
fn what_is_no_mesh_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = config(folder.path(), 1, 2);
    let place =
        |process, processes, workers| MeshConfig { place: Place { process, processes, workers }, ..good.clone() };
    let twice = MeshConfig { peers: vec![good.peers[0].clone(); 2], ..good.clone() };
    let hasty = MeshConfig { dead: good.beat, ..good.clone() };
    for wrong in [place(0, 1, 1), place(2, 2, 1), place(0, 3, 1), place(0, 2, 0), twice, hasty] {
        assert!(matches!(Mesh::form(&wrong, meter(&good), &|| false), Err(MeshError::Config(_))), "{wrong:?}");
    }
    // Nobody comes; and somebody wishes to stop.
    let brief = MeshConfig { startup: Duration::from_millis(300), ..good.clone() };
    assert!(matches!(Mesh::form(&brief, meter(&good), &|| false), Err(MeshError::Absent { process: 0, .. })));
    assert!(matches!(Mesh::form(&good, meter(&good), &|| true), Err(MeshError::Stopped)));
}

/// A mesh of two on the network, whose processes show certificates that `authorities` issued.
fn over_tls(folder: &Path, authorities: [&Authority; 2], startup: Duration) -> [MeshConfig; 2] {
    let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = free.map(|listener| listener.local_addr().unwrap().port());
    let peers: Vec<Address> = ports.iter().map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect();
    [0, 1].map(|process| {
        let own = folder.join(format!("tls-{process}"));
        authorities[process].issue(&format!("p{process}.g7.j.mesh"), &own);
        let tls = Some(Tls::read(&own).unwrap());
        MeshConfig { peers: peers.clone(), tls, startup, ..config(folder, process, 2) }
    })
}

#[test]
fn over_tls_only_those_come_in_whom_the_authority_knows_and_all_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [leader, follower] = over_tls(folder.path(), [&authority, &authority], HUNG);
    let counts = meter(&leader);
    let forming = start(leader.clone(), counts.clone());
    // In plain text: a scrape, and one who knows all that a peer knows.
    let mut plain = None;
    until("the door", || {
        plain = leader.peers[0].connect(HUNG).ok();
        plain.is_some()
    });
    plain.unwrap().write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(hello::call(&mut leader.peers[0].connect(HUNG).unwrap(), &hello()).is_err());
    until("both", || counts.rejected().get("untrusted") == Some(&2));
    let other = start(follower.clone(), meter(&follower)).join().unwrap().unwrap();
    let mesh = forming.join().unwrap().unwrap();
    let ear = Ear::at(&mesh, "0");
    other.say(0, &"x".repeat(5_000_000));
    until("a long letter", || ear.words.lock().unwrap().iter().any(|(_, said)| said.len() > 5_000_000));
    // Both directions at once, more than any buffer holds: neither side may wait for the other one to read.
    let [one, two] = [&mesh, &other].map(|mesh| mesh.take_data().unwrap().into_iter().flatten().next().unwrap());
    let bulk = 8 << 20;
    let carry = |mut from: Counted, own: u8| {
        let mut reading = timely::communication::allocator::zero_copy::stream::Stream::try_clone(&from).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; bulk];
            std::io::Read::read_exact(&mut reading, &mut all).unwrap();
            all
        });
        std::thread::spawn(move || {
            from.write_all(&vec![own; bulk]).unwrap();
            reader.join().unwrap()
        })
    };
    let (one, two) = (carry(one, 1), carry(two, 2));
    assert!(one.join().unwrap() == vec![2; bulk] && two.join().unwrap() == vec![1; bulk]);
    assert_eq!(counts.peers()[0].sent_bytes, bulk as u64);
}

#[test]
fn one_with_a_certificate_of_another_authority_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let authorities = [Authority::new(), Authority::new()];
    let brief = Duration::from_secs(1);
    let [leader, follower] = over_tls(folder.path(), [&authorities[0], &authorities[1]], brief);
    let counts = meter(&leader);
    let forming = start(leader, counts.clone());
    let other = start(follower.clone(), meter(&follower)).join().unwrap();
    assert!(matches!(other, Err(MeshError::Absent { process: 0, .. })));
    assert!(matches!(forming.join().unwrap(), Err(MeshError::Absent { process: 1, .. })));
    assert!(counts.rejected()["untrusted"] > 0);
    let missing = Tls::read(&folder.path().join("nowhere")).unwrap_err();
    assert!(missing.contains("ca.pem") && missing.contains("hint"), "{missing}");
}

//! Strangers at the mesh port of a real process, before the job runs and while it does: whatever killed a process of timely's own mesh is
//! turned away, counted, and disturbs nobody. What the processes serve about it is what Prometheus reads.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::admin::{check_by_promtool, get, series};
use crate::mesh::{free_ports, more_rows, poured};
use crate::oracle::{Model, assert_same};
use crate::support::jobs::{self, BUSY, Over};
use crate::support::process::Stop;
use crate::support::{Place, Running, Shop, topics};

/// Longer than who says nothing is listened to.
const PATIENCE: Duration = Duration::from_secs(90);
/// Handshakes that may be going on at the same time.
const PENDING: usize = 64;

fn knock(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    socket
}

/// All that was done to a process of timely's own mesh, and what a scanner does besides. Returns who stays and says nothing.
fn strangers(port: u16) -> Vec<TcpStream> {
    // A probe; one that comes and breaks off.
    drop(knock(port));
    let broken = knock(port);
    broken.shutdown(Shutdown::Write).expect("it is open");
    let (nine, one) = (9_u64.to_le_bytes(), 1_u64.to_le_bytes());
    let rubbish: Vec<u8> = [&one[..], &[0xAB; 5000]].concat();
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
    let said: [&[u8]; 6] =
        [&nine, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", &rubbish, &tls, b"SSH-2.0-OpenSSH_9.2\r\n", &[0xFF; 64]];
    for bytes in said {
        let mut socket = knock(port);
        // It may be turned away before all of it is written.
        let _ = socket.write_all(bytes);
        assert_is_told_nothing(socket);
    }
    // A process of the mesh at first, and then not.
    let mut socket = knock(port);
    socket.write_all(b"riv-mesh\xFF\xFF\0\0").expect("it is open");
    assert!(!heard(socket).is_empty(), "one that speaks another version is told so");
    vec![knock(port), knock(port)]
}

fn heard(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was not read of what it sent makes the end an error.
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

fn assert_is_told_nothing(socket: TcpStream) {
    assert_eq!(heard(socket), b"", "a stranger is told nothing");
}

/// Connections that were turned away, by reason.
fn rejected(admin: &str, reason: &str) -> f64 {
    let page = get(admin, "/metrics").body;
    let name = format!(r#"riverrun_mesh_rejected_connections_total{{job_name="attribution",reason="{reason}"}}"#);
    series(&page).get(&name).copied().unwrap_or(0.0)
}

/// Waits until strangers have come so often and all were counted.
fn all_are_counted(running: &mut Running, admin: &str, times: f64) {
    // Who looked whether there is a door is counted too.
    let all = [("gone", 2.0 * times + 1.0), ("stranger", 6.0 * times), ("version", times), ("slow", 2.0 * times)];
    for (reason, count) in all {
        running.until(reason, || rejected(admin, reason) >= count);
        assert_eq!(rejected(admin, reason), count, "{reason}");
    }
}

fn admin(place: &Place, running: &mut Running, process: usize) -> String {
    let file = place.path(&format!("own{process}/admin"));
    running.until("its admin port", || file.exists());
    std::fs::read_to_string(file).expect("it is there").trim().to_owned()
}

#[test]
fn strangers_at_a_running_process_are_counted_and_change_nothing() {
    let shopping = Shop { rows: 2000, ..Shop::default() }.open();
    let job = jobs::attribution(Over::Topics, Model::Last);
    let (calm, place) = (poured(&shopping, &job), poured(&shopping, &job));
    calm.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(BUSY).succeed();
    let ports = free_ports(2);
    let peers = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let start = |process: usize| {
        let worker = ["worker", "job.yaml", "-o", "json", "-w", "1", "--processes", "2", "--peers", &peers];
        let worker = place.riverrun(&worker).args(&["--topics", "topics", "--admin", "127.0.0.1:0"]).args(BUSY);
        let worker = worker.arg("--process").arg(process.to_string()).arg("--run-dir").arg(format!("own{process}"));
        worker.arg("--mesh-listen").arg(format!("127.0.0.1:{}", ports[process])).start()
    };
    let mut leader = start(0);
    let leads = admin(&place, &mut leader, 0);
    leader.until("its door", || TcpStream::connect(("127.0.0.1", ports[0])).is_ok());
    let mut silent = strangers(ports[0]);
    let mut follower = start(1);
    let follows = admin(&place, &mut follower, 1);
    let out = || topics::count(&place.path("topics"), "out");
    leader.until("rows", || out() > 0);
    all_are_counted(&mut leader, &leads, 1.0);
    silent.extend(strangers(ports[0]));
    // As many as may be heard at the same time, and more: those at the door are not kept from their work.
    silent.extend((0..2 * PENDING).map(|_| knock(ports[1])));
    all_are_counted(&mut leader, &leads, 2.0);
    follower.until("the last of the silent ones", || {
        rejected(&follows, "slow") + rejected(&follows, "busy") >= 2.0 * PENDING as f64
    });
    for (address, process) in [(&leads, 0), (&follows, 1)] {
        let page = get(address, "/metrics").body;
        check_by_promtool(&page);
        let seen = series(&page);
        let peers = seen.iter().filter(|(name, _)| name.starts_with("riverrun_mesh_peers")).map(|(_, value)| *value);
        assert_eq!(peers.collect::<Vec<_>>(), [1.0, 1.0], "process {process} has its peer");
        for name in ["bytes_total", "messages_total", "heartbeat_age_seconds", "rejected_connections_total"] {
            assert!(page.contains(&format!("# TYPE riverrun_mesh_{name} ")), "process {process} has no {name}");
        }
    }
    // Rows of a later time let all of these go.
    more_rows(&place, 0);
    let rows = |place: &Place| topics::rows(&place.path("topics"), "out");
    let is_later = |row: &Value| row["order_id"].as_str().is_some_and(|id| id.starts_with("0-"));
    leader.until("later rows", || rows(&place).iter().any(is_later));
    drop(silent);
    follower.signal(Stop::Terminate);
    for finished in [leader.finish(), follower.finish()] {
        assert_eq!(finished.code, Some(0), "{finished}");
    }
    let mut given = rows(&place);
    given.retain(|row| !is_later(row));
    assert_same(&given, &rows(&calm), &[]);
}

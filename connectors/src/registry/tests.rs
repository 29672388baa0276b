//! Against a server of the test's own that says what a registry would say, or nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use riverrun_dataflow::source::{
    Chunk, Numbering, Payload, ReadLimits, Records, Source, SourceError, SplitReader, SplitSpec,
};

use super::*;

/// A server on a free port. What it answers to a path, `say` tells: status and body.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// The threads end with the process: they wait for requests that never come.
    fn start(say: impl Fn(usize, &str) -> (u16, String) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counts = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&stream.unwrap(), |path| say(counts.fetch_add(1, Ordering::SeqCst), path));
            }
        });
        Server { port, asked }
    }

    fn registry(&self) -> Registry {
        let url = format!("http://127.0.0.1:{}/base", self.port);
        Registry::at(RegistryAddress::parse(&url, |text| Ok(text.to_owned())).unwrap())
    }
}

fn answer(stream: &TcpStream, say: impl Fn(&str) -> (u16, String)) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let (status, body) = say(path.trim_start_matches("/base"));
    let length = body.len();
    let text = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    (&*stream).write_all(text.as_bytes()).unwrap();
}

fn known(text: &str) -> Answer {
    let schema = RegisteredSchema { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() };
    Answer::Known(Arc::new(schema))
}

#[test]
fn a_number_is_asked_for_once_and_a_registry_that_fails_is_asked_again() {
    let server = Server::start(|turn, path| match (turn, path) {
        (0, _) => (500, String::new()),
        (1, _) => (404, "<html>not a registry</html>".to_owned()),
        (_, "/schemas/ids/7") => (200, r#"{"schema": "\"string\""}"#.to_owned()),
        _ => (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.to_owned()),
    });
    let registry = server.registry();
    assert_eq!(registry.known(7), None, "nothing is asked before somebody wants to know");
    assert_eq!(registry.answer(7), known("\"string\""));
    assert_eq!(registry.answer(7), known("\"string\""));
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
    let Answer::Unknown(reason) = registry.answer(8) else { panic!("there is no schema 8") };
    assert!(reason.contains("40403"), "{reason}");
    registry.answer(8);
    assert_eq!(server.asked.load(Ordering::SeqCst), 4);
}

#[test]
fn references_come_before_what_refers_to_them() {
    let server = Server::start(|_, path| {
        let reference = |name: &str| format!(r#"[{{"name": "{name}", "subject": "s/{name}", "version": 3}}]"#);
        let body = match path {
            "/schemas/ids/1" => {
                format!(r#"{{"schema": "one", "schemaType": "PROTOBUF", "references": {}}}"#, reference("a"))
            }
            "/subjects/s%2Fa/versions/3" => format!(r#"{{"schema": "two", "references": {}}}"#, reference("b")),
            "/subjects/s%2Fb/versions/3" => format!(r#"{{"schema": "three", "references": {}}}"#, reference("a")),
            _ => String::new(),
        };
        (200, body)
    });
    let Answer::Known(schema) = server.registry().answer(1) else { panic!("it is known") };
    let references = [("b", "three"), ("a", "two")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!((schema.kind, schema.references.as_slice()), (SchemaKind::Protobuf, &references[..]));
}

/// Gives one chunk, then has ended.
struct Once(Option<Chunk>);

impl Source for Once {
    fn splits(&self, _: bool) -> Result<Vec<SplitSpec>, SourceError> {
        Ok(Vec::new())
    }

    fn open(&self, _: &SplitSpec, _: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        Ok(Box::new(Once(self.0.clone())))
    }
}

impl SplitReader for Once {
    fn read(&mut self, _: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        Ok(self.0.take())
    }

    fn ended(&self) -> bool {
        self.0.is_none()
    }
}

/// Opens a source of one record with schema 7.
fn reader(registry: Registry) -> Box<dyn SplitReader> {
    let record = vec![0, 0, 0, 0, 7, 1];
    let ranges = vec![(0, record.len() as u32)];
    let records = Records { bytes: Arc::new(record), ranges, numbering: Numbering::Ordinal };
    let chunk = Chunk { from: 0, to: 1, payload: Payload::Records(records) };
    let source = RegisteredSource::new(Arc::new(Once(Some(chunk))), registry);
    source.open(&SplitSpec { name: "0".into(), start: 0, end: None, identity: String::new() }, 0).unwrap()
}

const LIMITS: ReadLimits = ReadLimits::at_most(10, 1000);

/// Reads until something comes, at most ten seconds.
fn read(reader: &mut dyn SplitReader) -> Result<Chunk, SourceError> {
    for _ in 0..1000 {
        if let Some(chunk) = reader.read(&LIMITS)? {
            return Ok(chunk);
        }
        assert!(reader.waits() && !reader.ended(), "it has neither ended nor is it idle");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("nothing came");
}

#[test]
fn a_source_gives_no_record_before_its_schema_is_there() {
    let server = Server::start(|turn, _| match turn {
        0..3 => (503, String::new()),
        _ => (200, r#"{"schema": "\"string\""}"#.to_owned()),
    });
    let registry = server.registry();
    let mut reader = reader(registry.clone());
    assert_eq!(read(reader.as_mut()).unwrap().rows(), 1);
    assert!(reader.ended() && !reader.waits());
    assert_eq!(registry.known(7), Some(known("\"string\"")));
    assert_eq!(server.asked.load(Ordering::SeqCst), 4);
}

#[test]
fn a_registry_that_lets_nobody_in_stops_the_source() {
    let server = Server::start(|_, _| (401, String::new()));
    let error = read(reader(server.registry()).as_mut()).unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
}

#[test]
fn a_schema_is_registered_or_refused_with_the_words_of_the_registry() {
    let server = Server::start(|turn, path| match (turn, path) {
        (0, _) => (503, String::new()),
        (1, "/subjects/out-value/versions") => (200, r#"{"id": 12}"#.to_owned()),
        _ => (409, r#"{"error_code": 409, "message": "a field has no default"}"#.to_owned()),
    });
    let registry = server.registry();
    assert_eq!(registry.register("out-value", SchemaKind::Avro, "{}"), Ok(12));
    let refused = registry.register("out-value", SchemaKind::Avro, "{}");
    assert_eq!(refused, Err(RegistryFault::Refused("a field has no default".to_owned())));
}

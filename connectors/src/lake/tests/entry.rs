//! Who may write to a lake that is there already.

use bytes::Bytes;

use super::*;

fn open(objects: &Arc<MemoryObjects>, claim: &Claim) -> Result<Option<Tick>, String> {
    let opened = sink_on(objects.clone(), Layout::default()).open(0, claim);
    opened.map(|(_, token)| token.map(|token| token.tick)).map_err(|error| error.to_string())
}

fn written() -> Arc<MemoryObjects> {
    let objects = Arc::new(MemoryObjects::default());
    feed(objects.clone(), Layout::default(), 1, 3).unwrap();
    objects
}

#[test]
fn a_lake_of_another_job_is_refused_or_added_to() {
    let objects = written();
    let other = Claim { job: "other".into(), incarnation: "zzz".into(), ..claim(1) };
    let refused = open(&objects, &other).unwrap_err();
    assert!(refused.contains("belongs to sink `rows` of job `shop`") && refused.contains("--append"), "{refused}");
    assert_eq!(open(&objects, &Claim { fresh: true, ..other.clone() }).unwrap_err(), refused);
    assert_eq!(open(&objects, &Claim { append: true, ..other.clone() }), Ok(None));
    assert_eq!(open(&objects, &Claim { generation: 2, ..other }), Ok(None), "it is in");
    assert_eq!(open(&objects, &claim(2)), Ok(Some(3)), "and so is the first one");
}

#[test]
fn a_fresh_start_replaces_what_the_job_wrote() {
    let objects = written();
    let again = Claim { incarnation: "another life".into(), ..claim(1) };
    let refused = open(&objects, &again).unwrap_err();
    assert!(refused.contains("--fresh"), "{refused}");
    assert_eq!(counted(&objects), ids(1..=3));
    assert_eq!(open(&objects, &Claim { fresh: true, ..again.clone() }), Ok(None));
    assert_eq!((counted(&objects), listed(&objects)), (vec![], vec![]));
    assert!(open(&objects, &claim(2)).is_err(), "the life before is over");
    assert_eq!(open(&objects, &again), Ok(None));
}

#[test]
fn an_appended_life_keeps_the_rows_of_the_one_before() {
    let objects = written();
    let again = Claim { incarnation: "another life".into(), fresh: true, append: true, ..claim(1) };
    let (mut lane, token) = sink_on(objects.clone(), Layout::default()).open(0, &again).unwrap();
    assert_eq!(token, None);
    lane.take(1, &[tick(1, 500..503)], Urgency::Now).unwrap();
    let mut expected = ids(1..=3);
    expected.extend(500..503);
    assert_eq!(counted(&objects), expected);
    // The one before may not come back: where it was is not known any more, and its rows would come twice.
    let back = open(&objects, &Claim { append: true, ..claim(2) }).unwrap_err();
    assert!(back.contains("another one has gone on") && back.contains("--fresh"), "{back}");
    assert_eq!(counted(&objects), expected);
}

#[test]
fn a_folder_with_other_things_is_not_taken() {
    let objects = Arc::new(MemoryObjects::default());
    objects.put("notes.txt", Bytes::from_static(b"hello")).unwrap();
    let refused = open(&objects, &claim(1)).unwrap_err();
    assert!(refused.contains("is no lake") && refused.contains("notes.txt"), "{refused}");
    assert_eq!(objects.paths(), ["notes.txt"]);
    assert_eq!(open(&objects, &Claim { append: true, ..claim(1) }), Ok(None));
}

#[test]
fn a_lake_keeps_the_layout_that_it_began_with() {
    let objects = written();
    let refused = sink_on(objects, Layout::Manifest).open(0, &claim(2)).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("`layout: visible_after_commit`") && refused.contains("hint"), "{refused}");
}

#[test]
fn a_lake_that_lost_a_record_is_damaged_not_shorter() {
    let objects = written();
    objects.delete(&["_commits/00000000000000000002.json".into()]).unwrap();
    let error = Lake::read(objects.clone()).unwrap_err().to_string();
    assert!(error.contains("00000000000000000002.json is damaged: it is missing"), "{error}");
    objects.put("_commits/00000000000000000002.json", Bytes::from_static(b"{\"version\":1}")).unwrap();
    assert!(matches!(Lake::read(objects.clone()).unwrap_err(), LakeError::Damaged { .. }));
    objects.put("_commits/00000000000000000002.json", Bytes::from_static(b"{\"version\":9}")).unwrap();
    let error = Lake::read(objects.clone()).unwrap_err().to_string();
    assert!(error.contains("version is 9"), "{error}");
    objects.delete(&["_commits/00000000000000000001.json".into()]).unwrap();
    let error = Lake::read(objects).unwrap_err().to_string();
    assert!(error.contains("00000000000000000001.json is damaged: it is missing"), "{error}");
}

#[test]
fn a_column_keeps_its_type_and_others_may_come() {
    let objects = written();
    let open = |field: Field, claim: Claim| {
        let schema = with_hidden(&[Field::new("id", DataType::Int64, false), field], &[Hidden::Time]);
        let place: Arc<dyn Objects> = objects.clone();
        let config = LakeSinkConfig { schema, ..config() };
        let opened = LakeSink::new(config, Arc::new(move || Ok(place.clone()))).open(0, &claim);
        opened.map(|_| ()).map_err(|error| error.to_string())
    };
    let number = Field::new("name", DataType::Int64, true);
    let refused = open(number.clone(), claim(2)).unwrap_err();
    assert!(refused.contains("a column `name` of type string") && refused.contains("hint"), "{refused}");
    assert_eq!(open(Field::new("more", DataType::Boolean, true), claim(2)), Ok(()));
    // The files before still have the column that the last start had not.
    assert_eq!(open(number.clone(), claim(3)).unwrap_err(), refused);
    assert_eq!(open(number, Claim { fresh: true, incarnation: "another life".into(), ..claim(1) }), Ok(()));
}

#[test]
fn rows_of_thousands_of_hours_are_one_commit() {
    let objects = Arc::new(MemoryObjects::default());
    let place: Arc<dyn Objects> = objects.clone();
    let config = LakeSinkConfig { file_size: 64 << 20, ..config() };
    let (mut lane, _) = LakeSink::new(config, Arc::new(move || Ok(place.clone()))).open(0, &claim(1)).unwrap();
    let mut scattered = tick(1, 0..3000);
    scattered.times = (0..3000).map(|hour| hour * HOUR).collect();
    let reached = lane.take(1, &[scattered], Urgency::Later).unwrap();
    assert_eq!(reached.covers, 0, "they wait for more");
    lane.take(2, &[tick(2, 3000..3001)], Urgency::Now).unwrap();
    let lake = Lake::read(objects.clone()).unwrap().unwrap();
    assert_eq!((lake.files().unwrap().len(), lake.number()), (3000, 3));
    assert_eq!(counted(&objects), (0..3001).collect::<Vec<_>>());
}

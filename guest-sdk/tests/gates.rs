//! Every gate through the gates of a test, and the forms that a guest's function may have.
#![expect(clippy::needless_pass_by_value, reason = "a guest is given its intent")]

use cantrip_guest::call_entity::{self, Child};
use cantrip_guest::cast::{self, Cantrip, Proposal};
use cantrip_guest::http_fetch::{self, Request, Response};
use cantrip_guest::llm::{self, Question};
use cantrip_guest::log::{self, Level};
use cantrip_guest::search::Search;
use cantrip_guest::testing::Gates;
use cantrip_guest::{Error, Progress, Turn, done, gates, list_dir, loom, read_file, write_file};
use serde_json::{Value, json};

#[test]
fn files_are_read_listed_searched_and_written() {
    let ran = Gates::new().file("docs/a.md", "one\ntwo ä").file("b.txt", "two").writable().run(|| {
        assert_eq!(read_file::read("b.txt")?, "two");
        assert_eq!(read_file::read_part("docs/a.md", 4, 5)?, "two ");
        let names: Vec<String> = list_dir::root()?.into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["b.txt", "docs"]);
        assert_eq!(list_dir::list("docs")?[0].bytes, Some(10));
        let found = Search::new("two").path("docs").max_results(1).run()?;
        assert_eq!((found.hits[0].line, found.truncated), (2, true));
        assert_eq!(write_file::write("c.txt", "three")?, 5);
        read_file::read("c.txt")
    });
    assert_eq!(ran.result.unwrap(), "three");
    assert_eq!(ran.files["c.txt"], "three");
    assert_eq!(ran.calls.last().unwrap().arguments, json!({ "path": "c.txt" }));
}

#[test]
fn what_is_not_given_is_denied_with_the_line_that_would_grant_it() {
    let ran = Gates::new().run(|| http_fetch::get("https://example.org"));
    let error = ran.result.unwrap_err();
    assert_eq!(error.kind(), "denied");
    assert!(error.message().contains("add \"http_fetch\" to circle.gates and `[gate.http_fetch]`"), "{error}");
    assert!(read_file::read("a").unwrap_err().message().contains("testing::Gates"));
}

#[test]
fn nothing_answers_after_done() {
    let ran = Gates::new().file("a", "text").run(|| {
        done::done(&json!({ "answer": 42 })).unwrap();
        read_file::read("a").unwrap_err().kind()
    });
    assert_eq!((ran.result, ran.done), ("denied", Some(json!({ "answer": 42 }))));
}

#[test]
fn a_model_a_network_children_and_gates_of_ones_own_are_functions() {
    let ran = Gates::new()
        .llm(|question| Ok(question.prompt().to_uppercase()))
        .http(|request| Ok(Response { status: 404, url: request.url().to_owned(), ..Response::default() }))
        .child(|child| if child.intent() == "fail" { Err("no".into()) } else { Ok(json!(child.intent().len())) })
        .on("double", |arguments| Ok(json!(arguments["number"].as_i64().unwrap_or(0) * 2)))
        .run(|| {
            assert_eq!(llm::ask("hi")?, "HI");
            assert_eq!(Question::new("hi").system("be brief").temperature(0.0).query()?.model, "test");
            let request = Request::post("https://example.org/x", "{}").header("accept", "application/json");
            assert!(request.send()?.json::<Value>().unwrap_err().message().contains("404"));
            assert_eq!(Child::new("four").gates(["read_file"]).wards(json!({ "max_turns": 1 })).cast::<usize>()?, 4);
            let answers = call_entity::batch::<usize>(&[Child::new("a"), Child::new("fail"), Child::new("abc")])?;
            assert_eq!(answers, [Ok(1), Err(Error::failed("no")), Ok(3)]);
            let cantrip = Cantrip::create(&Proposal::new().system_prompt("count"))?;
            assert_eq!(cantrip.cast::<usize>("ab")?, 2);
            assert_eq!(cast::batch::<usize>(&[(&cantrip, "abc")])?, [Ok(3)]);
            assert!(gates::names().contains(&"double".to_owned()));
            log::warn("nearly there");
            gates::call::<_, i64>("double", &json!({ "number": 21 }))
        });
    assert_eq!(ran.result, Ok(42));
    assert_eq!(ran.logs, [(Level::Warn, "nearly there".to_owned())]);
}

#[test]
fn the_record_is_read_page_by_page() {
    let page = |arguments: Value| {
        let entry = |id: &str| json!({ "id": id, "kind": "opened", "entity": "e", "at_us": 1, "body": {} });
        Ok(match arguments.get("cursor").and_then(Value::as_str) {
            None => json!({ "entries": [entry("1"), entry("2")], "next": "2" }),
            Some(_) => json!({ "entries": [entry("3")], "next": null }),
        })
    };
    let ran = Gates::new().on("read_loom", page).run(loom::all);
    let ids: Vec<String> = ran.result.unwrap().into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

#[derive(serde::Deserialize)]
struct Task {
    number: i64,
}

mod typed {
    #[cantrip_guest::main]
    pub(super) fn run(task: super::Task) -> Result<i64, std::num::TryFromIntError> {
        i8::try_from(task.number).map(i64::from)
    }
}

mod stepping {
    #[cantrip_guest::steps]
    pub(super) fn step(turn: super::Turn) -> Result<super::Progress<u64>, super::Error> {
        let last: u64 = turn.intent.parse()?;
        Ok(if turn.number < last { super::Progress::More } else { super::Progress::Finished(turn.number) })
    }
}

#[test]
fn the_attributes_leave_the_function_as_it_is() {
    assert_eq!(typed::run(Task { number: 7 }), Ok(7));
    let turn = |number| Turn { number, intent: "2".to_owned(), heard: Vec::new() };
    assert_eq!(stepping::step(turn(1)), Ok(Progress::More));
    assert_eq!(stepping::step(turn(2)), Ok(Progress::Finished(2)));
    assert_eq!(stepping::step(Turn::default()).unwrap_err().kind(), "invalid");
}

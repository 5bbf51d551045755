//! A guest of the tests: calls what its intent says, through the typed interface of each gate.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cantrip_guest::call_entity::{self, Child};
use cantrip_guest::cast::{self, Cantrip, Proposal};
use cantrip_guest::http_fetch::Request;
use cantrip_guest::read_file::Reader;
use cantrip_guest::search::Search;
use cantrip_guest::{Error, done, gates, list_dir, llm, log, loom, read_file, write_file};
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
pub struct Task {
    call: String,
    #[serde(default)]
    with: String,
    #[serde(default)]
    text: String,
}

#[cantrip_guest::main]
pub fn run(tasks: Vec<Task>) -> Result<Vec<Value>, Error> {
    tasks.iter().map(one).collect()
}

fn one(task: &Task) -> Result<Value, Error> {
    let Task { call, with, text } = task;
    Ok(match call.as_str() {
        "read" => json!(read_file::read(with)?),
        "pieces" => json!(Reader::new(with.as_str()).piece_bytes(4).collect::<Result<Vec<_>, _>>()?),
        "list" => json!(list_dir::list(with)?),
        "search" => {
            let found = Search::new(text.as_str()).path(with.as_str()).max_results(1).run()?;
            json!({ "hits": found.hits, "truncated": found.truncated })
        }
        "write" => json!(write_file::write_with_dirs(with, text)?),
        "fetch" => json!(Request::post(with.as_str(), text.as_str()).header("x-test", "1").send()?),
        "child" => Child::new(text.as_str()).system_prompt("be brief").wards(json!({ "max_turns": 2 })).cast()?,
        "children" => {
            let children = [Child::new("one"), Child::new("two").gates(["nothing"])];
            let answers = call_entity::batch::<Value>(&children)?;
            answers.into_iter().map(|it| it.unwrap_or_else(|error| json!(error.kind()))).collect()
        }
        "cantrip" => {
            let cantrip = Cantrip::create(&Proposal::new().system_prompt("be brief").gates(["done"]))?;
            let first: Value = cantrip.cast("one")?;
            let more = cast::batch::<Value>(&[(&cantrip, "two")])?;
            json!([first, more.into_iter().collect::<Result<Vec<_>, _>>()?])
        }
        "ask" => json!(llm::Question::new(text.as_str()).system("be brief").max_output_tokens(9).query()?),
        "loom" => json!(loom::all()?.into_iter().map(|entry| entry.kind).collect::<Vec<_>>()),
        "names" => json!(gates::names()),
        "gate" => gates::call(with, &json!([text]))?,
        "print" => {
            println!("printed");
            eprintln!("complained");
            log::warn("logged");
            Value::Null
        }
        "clock" => {
            let before = Instant::now();
            std::thread::sleep(Duration::from_millis(30));
            let slept = before.elapsed().as_millis() >= 30;
            let year =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 31_556_952 + 1970);
            json!({ "slept": slept, "year": year })
        }
        "random" => {
            use std::hash::{BuildHasher, RandomState};
            json!(RandomState::new().hash_one(1))
        }
        "folder" => json!(std::fs::read_to_string(with).map_err(|error| Error::not_found(error))?),
        "panic" => panic!("as asked"),
        "done" => {
            done::done(text)?;
            Value::Null
        }
        other => return Err(Error::invalid(format_args!("no such call: {other}"))),
    })
}

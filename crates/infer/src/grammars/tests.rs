//! Formats against a model that says anything.

use std::time::Instant;

use palimpsest_random::Stream;
use serde_json::{Value, json};

use super::*;
use crate::engine::Engine;
use crate::limits::Limits;
use crate::model::Model;
use crate::request::Request;
use crate::sampler::Sampling;
use crate::task::{Event, Finish, Task};
use crate::work::Work;

const END: u32 = 0;

/// The end, a second one, every byte, some words of several, and what is no text.
fn vocabulary() -> Vec<Vec<u8>> {
    let words = ["true", "false", "\": ", "{\"", "\"}", "aa", "ab", "中文", " the", "12", "</s>"];
    let bytes = (0..=255u8).map(|byte| vec![byte]);
    let ends = [b"</s>".to_vec(), b"<|end|>".to_vec()];
    ends.into_iter().chain(bytes).chain(words.map(|word| word.as_bytes().to_vec())).chain([Vec::new()]).collect()
}

fn mk_grammars() -> Arc<Grammars> {
    Arc::new(Grammars::new(vocabulary(), &[END, 1]).unwrap())
}

/// A model that says anything, and knows forty tokens beyond the vocabulary's.
struct Random {
    stream: Stream,
    logits: Vec<f32>,
}

impl Model for Random {
    type Error = std::convert::Infallible;

    fn vocabulary(&self) -> usize {
        vocabulary().len() + 40
    }

    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32], Self::Error> {
        let count = step.iter().map(Work::rows).sum::<usize>() * self.vocabulary();
        self.logits.clear();
        self.logits.extend((0..count).map(|_| 2.0 * self.stream.normal() as f32));
        Ok(&self.logits)
    }
}

fn mk_engine(grammars: Arc<Grammars>, seed: u64) -> Engine<Random> {
    let limits = Limits {
        blocks: 1_000,
        block_tokens: 16,
        step_tokens: 64,
        step_rows: 64,
        running: 64,
        waiting_requests: 1_000,
        waiting_tokens: 10_000,
        context: 2_000,
        reuses_prefixes: true,
    };
    let model = Random { stream: Stream::new(seed, "model", &[]), logits: Vec::new() };
    Engine::new(model, limits).with_grammars(grammars)
}

fn mk_task(format: Format, seed: u64) -> Task {
    Task {
        request: Request { prompt: vec![5], new_tokens: 600, ..Request::default() },
        sampling: Sampling { seed, ..Sampling::default() },
        ends: vec![END, 1],
        format: Some(format),
        ..Task::default()
    }
}

/// The tokens of each task and how it ended, in order.
fn run(engine: &mut Engine<Random>, tasks: Vec<Task>) -> Vec<(Vec<u32>, Result<Finish>)> {
    let ids: Vec<_> = tasks.into_iter().map(|task| engine.submit(task).unwrap()).collect();
    let mut outputs = vec![(Vec::new(), Ok(Finish::Length)); ids.len()];
    while engine
        .step(|id, event| {
            let output = &mut outputs[ids.iter().position(|other| *other == id).unwrap()];
            match event {
                Event::Token { token, .. } => output.0.push(token),
                Event::Finished { reason, tokens, .. } => {
                    assert_eq!(tokens, output.0.len());
                    output.1 = Ok(reason);
                }
                Event::Failed(error) => output.1 = Err(error),
                Event::Started { .. } | Event::Prompt(_) => {}
            }
        })
        .unwrap()
    {}
    outputs
}

/// What tokens say, up to the end.
fn text(tokens: &[u32]) -> String {
    let vocabulary = vocabulary();
    let said = tokens.iter().filter(|token| **token > 1).flat_map(|token| vocabulary[*token as usize].clone());
    String::from_utf8(said.collect()).unwrap()
}

/// Random outputs that follow a format, all of which say that they are whole.
fn outputs(format: Format) -> Vec<String> {
    let grammars = mk_grammars();
    let mut engine = mk_engine(grammars, 1);
    let tasks = (0..40).map(|seed| mk_task(format.clone(), seed)).collect();
    let outputs = run(&mut engine, tasks);
    let whole = outputs.into_iter().map(|(tokens, end)| {
        assert_eq!(end, Ok(Finish::Stop), "{:?}", text(&tokens));
        text(&tokens)
    });
    whole.collect()
}

/// Whether a value follows a schema, of which these tests have the keywords that are read here.
fn follows(value: &Value, schema: &Value) -> bool {
    let number = |name: &str| schema[name].as_f64();
    let count = |name: &str| schema[name].as_u64().map(|count| count as usize);
    let is_within = |found: usize, least: &str, most: &str| {
        count(least).is_none_or(|least| found >= least) && count(most).is_none_or(|most| found <= most)
    };
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        return schemas.iter().any(|schema| follows(value, schema));
    }
    match schema["type"].as_str() {
        Some("object") => {
            let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
                return false;
            };
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            required.iter().all(|name| object.contains_key(name.as_str().unwrap_or_default()))
                && object.iter().all(|(name, value)| properties.get(name).is_some_and(|schema| follows(value, schema)))
        }
        Some("array") => value.as_array().is_some_and(|items| {
            is_within(items.len(), "minItems", "maxItems") && items.iter().all(|item| follows(item, &schema["items"]))
        }),
        Some("string") => value.as_str().is_some_and(|text| is_within(text.chars().count(), "minLength", "maxLength")),
        Some("integer") => value.as_i64().is_some_and(|value| {
            number("minimum").is_none_or(|least| value as f64 >= least)
                && number("maximum").is_none_or(|most| value as f64 <= most)
        }),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    }
}

#[test]
fn a_model_that_says_anything_says_what_a_schema_asks_for() {
    let name = json!({"type": "string", "minLength": 2, "maxLength": 12});
    let person = json!({
        "type": "object",
        "properties": {
            "name": name, "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "kind": {"enum": ["person", "中文", 3]}, "tags": {"type": "array", "items": name, "minItems": 1, "maxItems": 3},
            "known": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        },
        "required": ["name", "age", "kind", "tags"], "additionalProperties": false,
    });
    let people = json!({"type": "array", "items": person, "minItems": 1, "maxItems": 2});
    for schema in [name, person, people] {
        for output in outputs(Format::JsonSchema(schema.to_string())) {
            let value: Value = serde_json::from_str(&output).unwrap();
            assert!(follows(&value, &schema), "{output} doesn't follow {schema}");
        }
    }
}

#[test]
fn regular_expressions_match_the_whole_and_grammars_are_followed() {
    for output in outputs(Format::Regex("(ab|中文){2,4}/[0-9]{3}".to_owned())) {
        let (words, digits) = output.split_once('/').unwrap();
        assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{output}");
        let count = words.matches("ab").count() + words.matches("中文").count();
        assert!((2..=4).contains(&count) && words.replace("ab", "").replace("中文", "").is_empty(), "{output}");
    }
    let anchored = outputs(Format::Regex("^a+$".to_owned()));
    assert!(anchored.iter().all(|output| !output.is_empty() && output.replace('a', "").is_empty()), "{anchored:?}");
    let lark = "start: \"<\" (start | WORD) \">\"\nWORD: /[a-c]{1,3}/\n";
    for output in outputs(Format::Lark(lark.to_owned())) {
        let word = output.trim_matches(['<', '>']);
        let depth = output.matches('<').count();
        assert_eq!(output, format!("{}{word}{}", "<".repeat(depth), ">".repeat(depth)));
        assert!((1..=3).contains(&word.len()) && depth > 0, "{output}");
    }
}

#[test]
fn an_end_comes_where_the_format_may_end_and_ends_it() {
    let mut engine = mk_engine(mk_grammars(), 3);
    let eager = |regex: &str| {
        let mut task = mk_task(Format::Regex(regex.to_owned()), 1);
        task.sampling.logit_bias = [(1, 100.0)].into();
        task
    };
    let ignoring = Task { ends: Vec::new(), ..eager("a{2,9}") };
    let stop = 2 + u32::from(b'b');
    let mut stopping = Task { ends: vec![stop], ..eager("cb?[0-9]*") };
    stopping.sampling.logit_bias = [(stop, 100.0)].into();
    let tasks = vec![eager("b{3,9}"), eager("bc"), eager(""), ignoring, stopping];
    let outputs = run(&mut engine, tasks);
    let said: Vec<(String, usize)> = outputs.iter().map(|(tokens, _)| (text(tokens), tokens.len())).collect();
    // By an end; by itself; at once; by an end that is none of the task's; and by one.
    let expected = [("bbb", 4), ("bc", 2), ("", 0), ("aa", 0), ("cb", 2)];
    for ((said, count), (text, tokens)) in said.iter().zip(expected) {
        assert_eq!(said, text);
        assert!(tokens == 0 || *count == tokens, "{said}: {count}");
    }
    assert!(outputs.iter().all(|(_, end)| *end == Ok(Finish::Stop)), "{outputs:?}");
    // What is complete ends in the same step.
    engine.submit(mk_task(Format::Regex("z".to_owned()), 1)).unwrap();
    let mut told = Vec::new();
    assert!(engine.step(|_, event| told.push(event)).unwrap());
    assert!(matches!(told.last(), Some(Event::Finished { reason: Finish::Stop, tokens: 1, .. })), "{told:?}");
}

#[test]
fn a_format_that_cannot_be_followed_is_refused_by_name_with_a_remedy() {
    let mut engine = mk_engine(mk_grammars(), 4);
    let mut check = |format: Format, message: &str| {
        let refusal = engine.submit(mk_task(format, 1)).unwrap_err().to_string();
        assert_eq!(refusal, message);
    };
    let schema = |text: &str| Format::JsonSchema(text.to_owned());
    check(
        schema("{"),
        "json_schema can't be followed: EOF while parsing an object at line 1 column 1; give a JSON schema of keywords that llguidance follows",
    );
    check(
        schema(r#"{"type": "strange"}"#),
        "json_schema can't be followed: Invalid type: strange; give a JSON schema of keywords that llguidance follows",
    );
    check(
        schema(r#"{"type": "object", "unevaluatedProperties": false}"#),
        "json_schema can't be followed: Unimplemented keys: [\"unevaluatedProperties\"]; give a JSON schema of keywords that llguidance follows",
    );
    check(
        schema(r#"{"$ref": "https://example.com/other.json"}"#),
        "json_schema can't be followed: Only absolute $ref's (#/...) are supported without 'referencing' feature; ref 'https://example.com/other.json'; give a JSON schema of keywords that llguidance follows",
    );
    check(
        schema(r#"{"type": "string", "minLength": 5, "maxLength": 2}"#),
        "json_schema can't be followed: Unsatisfiable schema: minLength (5) is greater than maxLength (2); give a JSON schema of keywords that llguidance follows",
    );
    check(
        Format::Regex("(a".to_owned()),
        "regex can't be followed: unclosed group; give one in the syntax of Rust's regex crate",
    );
    check(
        Format::Regex("a(?=b)".to_owned()),
        "regex can't be followed: look-around, including look-ahead and look-behind, is not supported; give one in the syntax of Rust's regex crate",
    );
    check(
        Format::Lark("start: missing".to_owned()),
        "lark can't be followed: at 1(8): unknown name: \"missing\"; give one in llguidance's dialect of Lark",
    );
    check(
        Format::Lark(String::new()),
        "lark can't be followed: no start rule found; give one in llguidance's dialect of Lark",
    );
    check(Format::Regex("a".repeat(Grammars::MOST_BYTES + 1)), "regex has 131073 bytes; give one of 131072 at most");
    // Nothing of them is left.
    assert!(!engine.step(|_, _| {}).unwrap());
}

#[test]
fn a_format_that_is_lost_on_its_way_fails_its_own_request() {
    // Without digits.
    let mut tokens = vocabulary();
    tokens.iter_mut().filter(|bytes| bytes.iter().any(u8::is_ascii_digit)).for_each(Vec::clear);
    let mut engine = mk_engine(Arc::new(Grammars::new(tokens, &[END]).unwrap()), 5);
    let formats = ["ab[0-9]", "ab", "ab[0-9]?"].map(|regex| mk_task(Format::Regex(regex.to_owned()), 1));
    let free = Task { format: None, ends: Vec::new(), ..mk_task(Format::Regex(String::new()), 2) };
    let outputs = run(&mut engine, formats.into_iter().chain([free]).collect());
    let cause = "no token of the model's can come next".to_owned();
    let ends: Vec<&Result<Finish>> = outputs.iter().map(|(_, end)| end).collect();
    assert_eq!(ends[0], &Err(Error::FormatLost { cause }));
    assert_eq!(ends[1..], [&Ok(Finish::Stop), &Ok(Finish::Stop), &Ok(Finish::Length)]);
    assert_eq!(outputs[3].0.len(), 600);
}

#[test]
fn what_is_made_to_take_long_is_refused_or_read_soon() {
    let grammars = mk_grammars();
    let chain: String =
        (0..1_500).map(|number| format!(r##""a{number}":{{"$ref":"#/$defs/a{}"}},"##, number + 1)).collect();
    let deep = |open: &str, close: &str, count: usize| format!("{}a{}", open.repeat(count), close.repeat(count));
    let formats = [
        Format::Regex("(((a{1,999}){1,999}){1,999}){1,999}".to_owned()),
        Format::Regex("(a|b)*c(a|b){5000}".to_owned()),
        Format::Regex(deep("(", ")", 60_000)),
        Format::Lark(format!("start: {}", deep("(", ")", 60_000).replace('a', "\"a\""))),
        Format::Lark(format!("start: \"a\"{{1,1000000}}\n{}", "b: \"c\"\n".repeat(10_000))),
        Format::JsonSchema(deep("{\"items\":", "}", 10_000)),
        Format::JsonSchema(format!(r##"{{"$defs":{{{chain}"a1500":{{"type":"null"}}}},"$ref":"#/$defs/a0"}}"##)),
        Format::JsonSchema(format!(
            r#"{{"allOf":[{}{{}}]}}"#,
            r#"{"anyOf":[{"type":"null"},{"minLength":1}]},"#.repeat(30)
        )),
        Format::JsonSchema(r##"{"$ref":"#"}"##.to_owned()),
        Format::JsonSchema(r#"{"type":"string","maxLength":100000000}"#.to_owned()),
        Format::JsonSchema(r#"{"type":"array","items":{"type":"null"},"minItems":1000000}"#.to_owned()),
    ];
    for format in formats {
        let start = Instant::now();
        let taken = grammars.constraint(&format).map(|mut constraint| constraint.allowed().is_ok());
        let seconds = start.elapsed().as_secs_f64();
        let refusal = taken.as_ref().err().map(ToString::to_string);
        assert!(refusal.is_none_or(|refusal| refusal.len() < 400), "{taken:?}");
        assert!(seconds < 5.0, "{seconds:.2} s for {:.60}: {taken:?}", format.text());
    }
}

#[test]
fn an_engine_without_text_follows_no_format_and_one_with_it_goes_to_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&mk_grammars());
    let mut engine = mk_engine(mk_grammars(), 6);
    is_send(&engine);
    let grammars = mk_grammars();
    let made =
        std::thread::spawn(move || grammars.constraint(&Format::Regex("bc".to_owned())).unwrap()).join().unwrap();
    let task = Task { format: None, ..mk_task(Format::Regex(String::new()), 1) };
    engine.submit_following(task, made).unwrap();
    let mut said = Vec::new();
    let mut tell = |event: Event| {
        if let Event::Token { token, .. } = event {
            said.push(token);
        }
    };
    while engine.step(|_, event| tell(event)).unwrap() {}
    assert_eq!(text(&said), "bc");
    let error = Grammars::new(vocabulary(), &[9_999]).unwrap_err().to_string();
    assert_eq!(error, "token 9999 is to end texts, but the vocabulary has 270");
}

#[test]
fn a_format_is_read_once_for_all_who_ask_for_it_until_it_fails_one() {
    let grammars = mk_grammars();
    let format = Format::Regex("ab[0-9]".to_owned());
    assert!(grammars.known(&format).is_none());
    let mut one = grammars.constraint(&format).unwrap();
    let mut other = grammars.known(&format).unwrap();
    // Each goes its own way.
    for byte in b"ab" {
        one.push(2 + u32::from(*byte)).unwrap();
    }
    assert!(other.push(2 + u32::from(b'a')).is_ok());
    assert!(one.push(2 + u32::from(b'7')).is_ok() && one.is_complete() && !other.is_complete());
    assert!(other.push(2 + u32::from(b'x')).is_err());
    assert!(grammars.known(&format).is_none(), "what has failed one is read anew");
    assert!(grammars.constraint(&format).is_ok());
}

#[test]
fn so_many_formats_are_followed_at_once_and_few_are_kept() {
    let grammars = mk_grammars();
    let format = |number: usize| Format::Regex(format!("a{number}"));
    let followed: Vec<_> = (0..64).map(|number| grammars.constraint(&format(number)).unwrap()).collect();
    assert_eq!(grammars.constraint(&format(64)).unwrap_err(), Error::ManyFormats { most: 64 });
    assert!(grammars.constraint(&format(0)).is_ok());
    drop(followed);
    assert!(grammars.constraint(&format(64)).is_ok());
    let kept = (0..65).filter(|number| grammars.known(&format(*number)).is_some()).count();
    assert_eq!(kept, 16);
}

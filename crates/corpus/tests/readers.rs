//! Datasets of every format, well formed and not.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::{BYTES, Bench, Bytes};
use flate2::write::GzEncoder;
use palimpsest_corpus::{EncodedDocument, documents, texts};
use serde_json::json;

const LINES: &str = "{\"target\": \"one\", \"id\": [1, {\"target\": 2}]}\n\n{\"source\": \"q: \", \"target\": \"two\"}\r\n{\"target\": \"三\\n\", \"source\": null}";
const DOCUMENTS: [&str; 3] = ["one", "q: two", "三\n"];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn mk_jsonl(content: impl AsRef<[u8]>) -> Bench {
    let mut bench = Bench::new();
    bench.write("zh.jsonl", content);
    bench.add(json!({"name": "zh", "uri": "file://zh.jsonl"}));
    bench
}

fn write_parquet(bench: &Bench, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap();
    let file = File::create(bench.path(name)).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn jsonl_is_read_plain_and_compressed() {
    assert_eq!(mk_jsonl(LINES).documents(), DOCUMENTS);
    assert_eq!(mk_jsonl(format!("\u{feff}{LINES}")).documents(), DOCUMENTS, "with a byte order mark");
    for (ending, content) in [("gz", gzip(LINES.as_bytes())), ("zst", zstd::encode_all(LINES.as_bytes(), 3).unwrap())] {
        let mut bench = Bench::new();
        bench.write(&format!("zh.jsonl.{ending}"), content);
        bench.add(json!({"name": "zh", "uri": format!("file://zh.jsonl.{ending}")}));
        assert_eq!(bench.documents(), DOCUMENTS, "{ending}");
    }
    // Two members one after the other, as `cat a.gz b.gz` makes.
    let mut bench = Bench::new();
    bench.write("zh.jsonl.gz", [gzip(b"{\"target\": \"one\"}\n"), gzip(b"{\"target\": \"two\"}\n")].concat());
    bench.add(json!({"name": "zh", "uri": "file://zh.jsonl.gz"}));
    assert_eq!(bench.documents(), ["one", "two"]);
}

#[test]
fn a_folder_is_read_in_the_order_of_names_and_other_files_are_named() {
    let mut bench = Bench::new();
    bench.write("zh/b.jsonl", "{\"target\": \"b\"}\n");
    bench.write("zh/a/z.jsonl.gz", gzip(b"{\"target\": \"a\"}\n"));
    bench.write("zh/README.md", "# Not data");
    bench.add(json!({"name": "zh", "uri": "file://zh/"}));
    assert_eq!(bench.documents(), ["a", "b"]);
    let plan = bench.prepare(json!({"sequenceLength": 4096}), json!([bench.stage_of_all()]), 1).unwrap();
    assert_eq!(plan.datasets[0].files, ["a/z.jsonl.gz", "b.jsonl"]);
    assert_eq!(plan.datasets[0].left_out_files, ["README.md"]);
}

#[test]
fn a_text_file_is_a_document() {
    let mut bench = Bench::new();
    bench.write("books/1.txt", "first\nbook\n");
    bench.write("books/2.md.zst", zstd::encode_all("第二".as_bytes(), 3).unwrap());
    bench.add(json!({"name": "books", "uri": "file://books", "format": "Text"}));
    assert_eq!(bench.documents(), ["first\nbook\n", "第二"]);
    bench.write("books/3.txt", b"ab\xff");
    assert_eq!(bench.error(), "books/3.txt: byte 3 is not UTF-8; convert the file to UTF-8");
}

#[test]
fn parquet_is_read_by_column() {
    let mut bench = Bench::new();
    std::fs::create_dir(bench.path("zh")).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), Some("two"), Some("三")]));
    let prompts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("q: "), None]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    write_parquet(
        &bench,
        "zh/0.parquet",
        vec![("id", numbers.clone()), ("content", texts.clone()), ("source", prompts)],
    );
    bench.add(json!({"name": "zh", "uri": "file://zh", "format": "Parquet", "fields": {"text": "content"}}));
    assert_eq!(bench.documents(), ["one", "q: two", "三"]);

    let holes: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), None]));
    write_parquet(&bench, "zh/1.parquet", vec![("content", holes)]);
    assert_eq!(
        bench.error(),
        "zh/1.parquet row 2: the record has no \"content\"; name the text's field in spec.data.datasets[..].fields.text"
    );
    write_parquet(&bench, "zh/1.parquet", vec![("content", numbers)]);
    assert_eq!(
        bench.error(),
        "zh/1.parquet: \"content\" is a column of type Int64, not a string; write a string, or name another field in \
         spec.data.datasets[..].fields"
    );
    write_parquet(&bench, "zh/1.parquet", vec![("text", texts)]);
    assert_eq!(
        bench.error(),
        "zh/1.parquet: there is no column \"content\"; name the text's column in spec.data.datasets[..].fields.text"
    );
    bench.write("zh/1.parquet", "PAR1 but not really PAR1");
    let error = bench.error();
    assert!(error.starts_with("zh/1.parquet: not a Parquet file that can be read: "), "{error}");
}

#[test]
fn bad_lines_are_named() {
    for (content, message) in [
        (
            &b"{\"target\": \"one\"}\n{\"target\": \"two\"\n"[..],
            "zh.jsonl line 2: not JSON: EOF while parsing an object at column 16; mend or remove the line",
        ),
        (
            b"{\"target\": \"one\"}\n\n{\"target\" \"two\"}\n",
            "zh.jsonl line 3: not JSON: expected `:` at column 11; mend or remove the line",
        ),
        (
            b"{\"target\": \"one\"} {}\n",
            "zh.jsonl line 1: not JSON: trailing characters at column 19; mend or remove the line",
        ),
        (
            b"[\"one\"]\n",
            "zh.jsonl line 1: not a JSON object but a list; write one such as {\"target\": \"...\"}, or remove the line",
        ),
        (
            b"{\"text\": \"one\"}\n",
            "zh.jsonl line 1: the record has no \"target\"; name the text's field in spec.data.datasets[..].fields.text",
        ),
        (
            b"{\"target\": null}\n",
            "zh.jsonl line 1: the record has no \"target\"; name the text's field in spec.data.datasets[..].fields.text",
        ),
        (
            b"{\"target\": [\"one\"]}\n",
            "zh.jsonl line 1: \"target\" is a list, not a string; write a string, or name another field in \
             spec.data.datasets[..].fields",
        ),
        (
            b"{\"target\": \"one\", \"source\": 7}\n",
            "zh.jsonl line 1: \"source\" is a number, not a string; write a string, or name another field in \
             spec.data.datasets[..].fields",
        ),
        (
            b"{\"target\": \"one\"}\n{\"target\": \"\xff\"}\n",
            "zh.jsonl line 2: byte 13 is not UTF-8; convert the file to UTF-8",
        ),
        (b"\n \n", "zh.jsonl: dataset \"zh\" is empty; correct its uri or remove it"),
        (b"", "zh.jsonl: dataset \"zh\" is empty; correct its uri or remove it"),
    ] {
        let bench = mk_jsonl(content);
        assert_eq!(bench.error(), message);
        let left: Vec<_> = std::fs::read_dir(bench.path("prepared/tokenized")).unwrap().collect();
        assert!(left.is_empty(), "nothing half-written stays: {left:?}");
    }
}

#[test]
fn the_first_bad_line_is_named_whatever_the_threads() {
    let mut lines: String =
        (0..40_000).map(|number| json!({"target": format!("document {number}")}).to_string() + "\n").collect();
    lines.push_str("oops\n");
    lines.push_str(&lines.clone());
    for threads in [1, 4] {
        let mut bench = mk_jsonl(&lines);
        bench.threads = threads;
        assert_eq!(bench.error(), "zh.jsonl line 40001: not JSON: expected value at column 1; mend or remove the line");
    }
}

#[test]
fn missing_and_broken_files_are_named() {
    let mut bench = Bench::new();
    bench.add(json!({"name": "zh", "uri": "file://zh.jsonl"}));
    assert!(bench.error().starts_with("there is no file or folder zh.jsonl"), "{}", bench.error());
    std::fs::create_dir(bench.path("zh.jsonl")).unwrap();
    bench.write("zh.jsonl/a.parquet", "");
    assert_eq!(
        bench.error(),
        "zh.jsonl: the folder holds no .jsonl file; correct the uri or the format of dataset \"zh\""
    );
    let whole = gzip(LINES.as_bytes());
    for (ending, content) in [("gz", &whole[..whole.len() / 2]), ("zst", b"not zstd")] {
        let mut bench = Bench::new();
        bench.write(&format!("zh.jsonl.{ending}"), content);
        bench.add(json!({"name": "zh", "uri": format!("file://zh.jsonl.{ending}")}));
        let error = bench.error();
        assert!(error.starts_with(&format!("zh.jsonl.{ending}: the file cannot be decompressed: ")), "{error}");
    }
}

#[test]
fn a_dataset_that_nothing_names_is_not_read() {
    let mut bench = mk_jsonl(LINES);
    let stage = bench.stage_of_all();
    bench.add(json!({"name": "absent", "uri": "file://absent.jsonl"}));
    let plan = bench.prepare(json!({"sequenceLength": 64}), json!([stage]), 1).unwrap();
    assert_eq!(plan.datasets.len(), 1);
}

#[test]
fn what_a_tokenizer_lacks() {
    let bench = mk_jsonl("{\"target\": \"one\"}\n");
    let prepare = |tokenizer: &Bytes| {
        bench.prepare_in(
            &bench.path("prepared"),
            tokenizer,
            json!({"sequenceLength": 8}),
            json!([bench.stage_of_all()]),
            1,
        )
    };
    let error = prepare(&Bytes { bos: Some(1), eos: None }).unwrap_err().to_string();
    assert!(error.starts_with("the tokenizer has no end-of-sequence token"), "{error}");
    // Without BOS a document begins with EOS, as Qwen's models have seen it, so that its first id is a target too.
    let plan = prepare(&Bytes { bos: None, eos: Some(2) }).unwrap();
    let reader = plan.reader(0).unwrap();
    let sequence = reader.sequence(0).unwrap();
    assert_eq!(sequence.input_ids, [2, 114, 113, 104]);
    assert_eq!(sequence.labels, [114, 113, 104, 2]);
}

#[test]
fn texts_are_prompt_and_text_of_what_is_not_held_out() {
    let bench = mk_jsonl(LINES);
    let read =
        |dataset| -> Vec<String> { texts(dataset, &bench.mounts()).unwrap().map(|text| text.unwrap()).collect() };
    assert_eq!(read(&bench.datasets[0]), DOCUMENTS);
    let all: Vec<EncodedDocument> =
        documents(&bench.datasets[0], &bench.mounts(), &BYTES).unwrap().map(|document| document.unwrap()).collect();
    let second = &all[1];
    assert_eq!((second.prompt.as_str(), second.text.as_str(), second.prompt_ids), ("q: ", "two", 4));
    assert_eq!((second.ids.len(), second.text_bytes, all.len()), (8, 3, 3));

    let broken = mk_jsonl("{\"target\": \"one\"}\noops\n{\"target\": \"two\"}\n");
    let read: Vec<bool> = texts(&broken.datasets[0], &broken.mounts()).unwrap().map(|text| text.is_ok()).collect();
    assert_eq!(read, [true, false], "the first error ends it");

    let mut bench = Bench::new();
    let numbers: Vec<String> = (0..1000).map(|number| format!("document {number}")).collect();
    let documents: Vec<(&str, &str)> = numbers.iter().map(|text| ("", text.as_str())).collect();
    bench.add_documents("zh", &documents, "0.25");
    bench.evaluated = vec!["zh".to_owned()];
    let plan = bench.prepare(json!({"sequenceLength": 64}), json!([bench.stage_of_all()]), 1).unwrap();
    let held_out: Vec<String> = plan.held_out("zh").unwrap().documents().map(|document| document.text).collect();
    let mut all: Vec<String> = texts(&bench.datasets[0], &bench.mounts()).unwrap().map(|text| text.unwrap()).collect();
    assert!(held_out.len().abs_diff(250) < 60 && all.len() + held_out.len() == 1000);
    assert_eq!(bench.documents(), all, "what a tokenizer may learn from is what a model may");
    all.extend(held_out);
    all.sort();
    let mut numbers = numbers;
    numbers.sort();
    assert_eq!(all, numbers);
}

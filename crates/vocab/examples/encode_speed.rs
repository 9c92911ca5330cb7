//! How fast a tokenizer encodes, beside Hugging Face's library with the same tokenizer.json.
//!
//! `encode_speed FOLDER FILE.jsonl...`: the folder holds a tokenizer.model (or .tiktoken) and a tokenizer.json; records
//! have a field `target`.

use palimpsest_vocab::Tokenizer;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, files @ ..] = arguments.as_slice() else { return Err("expected FOLDER FILE.jsonl...".into()) };
    let begun = Instant::now();
    let ours = Tokenizer::open(Path::new(folder))?;
    println!("opened in {:.3} s", begun.elapsed().as_secs_f64());
    let json = Path::new(folder).join("tokenizer.json");
    let theirs = tokenizers::Tokenizer::from_file(&json)?;
    for file in files {
        let mut texts = Vec::new();
        for line in std::fs::read_to_string(file)?.lines() {
            let record: serde_json::Value = serde_json::from_str(line)?;
            texts.push(record["target"].as_str().unwrap_or_default().to_owned());
        }
        let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
        let mut seconds = [f64::MAX; 2];
        for _ in 0..3 {
            let begun = Instant::now();
            let count: usize = texts.iter().map(|text| ours.encode(text).map_or(0, |ids| ids.len())).sum();
            seconds[0] = seconds[0].min(begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            let mut expected = 0;
            for text in &texts {
                expected += theirs.encode_fast(text.as_str(), false)?.len();
            }
            seconds[1] = seconds[1].min(begun.elapsed().as_secs_f64());
            if count != expected {
                println!("{count} ids, the library {expected}");
            }
        }
        let [one, other] = seconds.map(|seconds| megabytes / seconds);
        println!("{file}: {one:.1} MB/s, tokenizers {other:.1} MB/s: {:.1} times", one / other);
    }
    Ok(())
}

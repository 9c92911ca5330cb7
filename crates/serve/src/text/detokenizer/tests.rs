//! Decoding one by one gives what decoding all at once gives.

use std::path::{Path, PathBuf};

use super::*;

/// Tokenizers of the test data, which `scripts/test-data.sh` unpacks; an error without them in CI.
fn tokenizers() -> Vec<(PathBuf, Arc<Tokenizer>)> {
    let default = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/palimpsest");
    let data = std::env::var_os("PALIMPSEST_CACHE").map_or_else(default, PathBuf::from).join("data");
    let names = [
        "models/stories260k",
        "models/smollm2-135m",
        "tokenizers/llama-2-7b",
        "tokenizers/qwen-7b",
        "tokenizers/chatglm2-6b",
        "tokenizers/chinese-llama-2-7b",
    ];
    let found: Vec<_> = names.into_iter().map(|name| data.join(name)).filter(|path| path.is_dir()).collect();
    assert!(!found.is_empty() || std::env::var("CI").as_deref() != Ok("true"), "no test data in {}", data.display());
    if found.is_empty() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no test data in {}", data.display());
        println!("skipped: no test data in {}", data.display());
    }
    found.into_iter().map(|path| (path.clone(), Arc::new(Tokenizer::open(&path).unwrap()))).collect()
}

const TEXTS: [&str; 8] = [
    "Once upon a time, there was a little girl named Lily.",
    " leading and  double   spaces\n\nand lines \t",
    "你好，世界！这是一个测试。𠮷野家",
    "é e\u{301} ﬁ ① 가나다 ﷺ 😀👩‍👩‍👧‍👦 €",
    "<s> </s> <|im_start|> <0x0A> ▁",
    "mixed 中文 and English 123 45.6 !?",
    "\u{FFFD} in the text \u{FFFD}\u{FFFD}",
    "",
];

fn one_by_one(tokenizer: &Arc<Tokenizer>, prompt: &[u32], ids: &[u32]) -> String {
    let mut detokenizer = Detokenizer::after(Arc::clone(tokenizer), prompt);
    let mut text: String = ids.iter().map(|id| detokenizer.push(*id)).collect();
    text.push_str(&detokenizer.flush());
    text
}

#[test]
fn texts_of_all_tokenizers_are_told_as_they_are_wherever_the_prompt_ends() {
    for (path, tokenizer) in tokenizers() {
        for text in TEXTS {
            let mut ids: Vec<u32> = tokenizer.bos().into_iter().collect();
            ids.extend(tokenizer.encode(text).unwrap());
            let whole = tokenizer.decode(&ids);
            assert_eq!(one_by_one(&tokenizer, &[], &ids), whole, "{} {text:?}", path.display());
            for cut in 0..ids.len() {
                let before = tokenizer.decode(&ids[..cut]);
                // Where the prompt ends within a character, what replaces it there is no beginning of the whole.
                if let Some(rest) = whole.strip_prefix(&before).filter(|_| !before.ends_with(REPLACEMENT)) {
                    let told = one_by_one(&tokenizer, &ids[..cut], &ids[cut..]);
                    assert_eq!(told, rest, "{} {text:?} after {cut}", path.display());
                }
            }
        }
    }
}

#[test]
fn ends_among_the_text_and_bytes_without_sense_are_no_hindrance() {
    for (path, tokenizer) in tokenizers() {
        let Some(end) = tokenizer.eos() else { continue };
        let hello = tokenizer.encode("hello world").unwrap();
        let ids: Vec<u32> = [&hello[..], &[end, end], &hello, &[end]].concat();
        assert_eq!(one_by_one(&tokenizer, &[], &ids), tokenizer.decode(&ids), "{}", path.display());
        // The first byte of a character again and again makes no character and is told all the same.
        let first = tokenizer.encode("𠮷").unwrap()[0];
        let mut detokenizer = Detokenizer::after(Arc::clone(&tokenizer), &hello);
        let told: usize = (0..100).map(|_| detokenizer.push(first).len()).sum();
        assert!(told > 0 && detokenizer.window.len() <= 2 * HELD, "{}", path.display());
    }
}

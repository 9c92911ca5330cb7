//! How many requests a second a server answers: `load CLIENTS SECONDS [MAX_TOKENS [ADDRESS]]`. Each client keeps its connection, asks
//! for a few tokens after a few, and asks again. Without an address, a server and the process of an arithmetic engine are started.

#[path = "../tests/support/arithmetic.rs"]
mod arithmetic;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use palimpsest_serve::{Config, EngineProcess, RestartPolicy, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [clients, seconds, rest @ ..] = &arguments[..] else {
        eprintln!("usage: load CLIENTS SECONDS [MAX_TOKENS [ADDRESS]]");
        return Ok(());
    };
    let (clients, seconds): (usize, u64) = (clients.parse()?, seconds.parse()?);
    let max_tokens: u32 = rest.first().map_or(Ok(1), |text| text.parse())?;
    if let Some(address) = rest.get(1) {
        load(address, clients, seconds, max_tokens).await;
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    arithmetic::write_model(folder.path());
    let engine = std::env::current_exe()?.with_file_name("arithmetic_engine");
    let process = EngineProcess::start(Command::new(engine), RestartPolicy::default())?;
    let config = Config::new(folder.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let server = Server::bind(config).await?;
    let address = server.http_address().to_string();
    tokio::spawn(server.run(process.link(), std::future::pending()));
    process.link().ready().await?;
    load(&address, clients, seconds, max_tokens).await;
    process.stop().await;
    Ok(())
}

async fn load(address: &str, clients: usize, seconds: u64, max_tokens: u32) {
    let body = json!({"prompt": "abc", "max_tokens": max_tokens}).to_string();
    let request =
        format!("POST /v1/completions HTTP/1.1\r\nhost: load\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> =
        (0..clients).map(|_| tokio::spawn(ask_until(address.to_owned(), request.clone(), end))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.ok().flatten().unwrap_or_default());
    }
    times.sort();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("{} requests/s, p50 {:?}, p99 {:?}", times.len() as u64 / seconds.max(1), at(0.5), at(0.99));
}

/// How long each answer took; nothing where the server breaks off.
async fn ask_until(address: String, request: String, end: Instant) -> Option<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 16384];
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut filled = 0;
        while !is_whole(&buffer[..filled]) {
            match stream.read(&mut buffer[filled..]).await.ok()? {
                0 => return None,
                count => filled += count,
            }
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            eprintln!("{}", String::from_utf8_lossy(&buffer[..filled]));
            return None;
        }
        times.push(began.elapsed());
    }
    Some(times)
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() >= end + 4 + length)
}

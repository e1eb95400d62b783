//! Clients that do not get to an end: half of them send a request's head, half of them a body, a
//! byte each half second.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use crate::platform::Program;

const PAUSE: Duration = Duration::from_millis(500);
/// How long one that was cut waits before it comes again.
const REST: Duration = Duration::from_secs(1);
/// As many people are behind them; one alone would not be let in as often as that.
const PEOPLE: usize = 20;

/// Tokens for them, who are nobody else.
pub(crate) fn tokens(program: &Program) -> anyhow::Result<Vec<String>> {
    (0..PEOPLE)
        .map(|n| {
            let subject = format!("slow-{n}");
            let args = ["token", "--subject", &subject, "--ttl", "1d", "--role", "front-desk"];
            Ok(program.must(&args)?.trim().to_owned())
        })
        .collect()
}

/// Keeps so many slow clients at a service, for ever.
pub(crate) async fn crowd(address: SocketAddr, count: usize, tokens: &[String]) -> Infallible {
    join_all((0..count).map(|n| come_again(address, n, &tokens[n % tokens.len()]))).await;
    unreachable!("none of them ends")
}

async fn come_again(address: SocketAddr, n: usize, token: &str) -> Infallible {
    let head = "POST /appointments HTTP/1.1\r\nhost: 127.0.0.1\r\n";
    let begun = if n.is_multiple_of(2) {
        format!("{head}x")
    } else {
        format!(
            "{head}authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{{"
        )
    };
    // Not all in one moment.
    sleep(PAUSE.mul_f64(fastrand::f64())).await;
    loop {
        // Whatever ends it, another one follows.
        let _ = drip(address, begun.as_bytes()).await;
        sleep(REST).await;
    }
}

/// Sends until the server has had enough.
async fn drip(address: SocketAddr, begun: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(begun).await?;
    loop {
        sleep(PAUSE).await;
        match stream.try_read(&mut [0; 1024]) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => stream.write_all(b"x").await?,
            // An answer, or the end.
            Ok(_) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

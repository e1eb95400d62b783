//! A lean HTTP/1.1 client: one keep-alive connection, one request at a time, no allocation per request.
//!
//! The generator shares its cores with what it measures, so what it spends is missing there. That rules out a general client.

use std::{io, net::SocketAddr, ops::Range};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Room for any answer's head.
const HEADERS_MAX: usize = 32;

pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// What of an answer's head matters here, and where its body is in the connection's buffer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    closes: bool,
    body: Range<usize>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::with_capacity(8 * 1024) }
    }

    /// Sends a whole request and reads its whole answer. A kept connection that the server closed meanwhile is opened again, once.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        let kept = self.stream.is_some();
        match self.attempt(request).await {
            Err(_) if kept => {
                self.stream = None;
                let again = self.attempt(request).await;
                if again.is_err() {
                    self.stream = None;
                }
                again
            }
            Err(e) => {
                self.stream = None;
                Err(e)
            }
            done => done,
        }
    }

    /// The body of the last answer.
    pub(crate) fn body(&self, answer: &Answer) -> &[u8] {
        &self.buffer[answer.body.clone()]
    }

    async fn attempt(&mut self, request: &[u8]) -> io::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        self.buffer.clear();
        stream.write_all(request).await?;
        let answer = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = head(&self.buffer)? {
                break answer;
            }
        };
        while self.buffer.len() < answer.body.end {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if answer.closes {
            self.stream = None;
        }
        Ok(answer)
    }
}

/// Reads an answer's head, if all of it is there.
fn head(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed =
        response.parse(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let httparse::Status::Complete(at) = parsed else { return Ok(None) };
    let (mut length, mut retry_after, mut closes) = (None, false, false);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            retry_after = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let status = response.code.unwrap_or(0);
    let length = match length {
        Some(length) => length,
        None if status == 204 || status == 304 => 0_usize,
        None => return Err(io::Error::new(io::ErrorKind::InvalidData, "no content-length")),
    };
    Ok(Some(Answer { status, retry_after, closes, body: at..at + length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let whole =
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}";
        assert!(head(&whole[..40]).unwrap().is_none());
        let answer = head(whole).unwrap().unwrap();
        assert_eq!((answer.status, answer.retry_after), (503, true));
        assert_eq!(&whole[answer.body], b"{}");
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "a body of unknown length");
    }
}

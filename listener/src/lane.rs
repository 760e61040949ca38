//! Files to clients without passing through this program: sendfile(2), where a connection is plain
//! TCP.
//!
//! hyper writes what a body yields. A lane's body yields stretches of [`BLANK`], which nobody reads,
//! and the connection's stream sends a piece of the file in the place of each. So heads, ranges,
//! keep-alive and back pressure stay hyper's. By TLS, where bytes have to be seen, they are read.

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use nix::sys::sendfile::sendfile;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// The most that is sent in one go.
const STRETCH: usize = 8 << 20;
/// What is read at a time where bytes have to be seen.
const CHUNK: usize = 128 << 10;

/// Stands for bytes that are elsewhere. Never touched, so it takes no memory.
static BLANK: [u8; STRETCH] = [0; STRETCH];

fn is_blank(slice: &[u8]) -> bool {
    !slice.is_empty() && BLANK.as_ptr_range().contains(&slice.as_ptr())
}

/// One connection's pieces of files, in the order of the blanks that stand for them. In a request's
/// extensions where its connection can send files by itself.
#[derive(Clone, Debug, Default)]
pub struct Lane(Arc<Mutex<VecDeque<Piece>>>);

#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    offset: u64,
    left: usize,
}

/// A response's body: `length` bytes of a file from `offset` on. Where it is read, that blocks the
/// task's thread for as long as the page cache takes.
pub fn file_body(lane: Option<Lane>, file: File, offset: u64, length: u64) -> Body {
    Body::new(FileBody { lane, file: Arc::new(file), offset, left: length })
}

struct FileBody {
    lane: Option<Lane>,
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl FileBody {
    fn next(&mut self) -> io::Result<Bytes> {
        let most = if self.lane.is_some() { STRETCH } else { CHUNK };
        let length = usize::try_from(self.left).unwrap_or(most).min(most);
        let bytes = match &self.lane {
            Some(lane) => {
                let file = self.file.clone();
                lane.pieces().push_back(Piece { file, offset: self.offset, left: length });
                Bytes::from_static(&BLANK[..length])
            }
            None => {
                let mut chunk = vec![0; length];
                self.file.read_exact_at(&mut chunk, self.offset)?;
                chunk.into()
            }
        };
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(bytes)
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        Poll::Ready((body.left > 0).then(|| body.next().map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Lane {
    fn pieces(&self) -> std::sync::MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the next `length` blank bytes stand for, or a part of it.
    fn send(&self, to: &TcpStream, length: usize) -> io::Result<usize> {
        let mut pieces = self.pieces();
        let piece = pieces.front_mut().ok_or(io::ErrorKind::InvalidData)?;
        let mut offset = i64::try_from(piece.offset).map_err(io::Error::other)?;
        match sendfile(to, &*piece.file, Some(&mut offset), piece.left.min(length))? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            sent => {
                piece.offset += sent as u64;
                piece.left -= sent;
                if piece.left == 0 {
                    pieces.pop_front();
                }
                Ok(sent)
            }
        }
    }
}

/// A connection whose blanks are files.
pub(crate) struct Sending {
    stream: TcpStream,
    lane: Lane,
}

impl Sending {
    pub(crate) fn new(stream: TcpStream, lane: Lane) -> Self {
        Self { stream, lane }
    }
}

impl AsyncRead for Sending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Sending {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let empty = slices.iter().take_while(|slice| slice.is_empty()).count();
        let slices = &slices[empty..];
        let seen = slices.iter().take_while(|slice| !is_blank(slice)).count();
        let Some(blank) = slices.first().filter(|_| seen == 0) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..seen]);
        };
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let send = || self.lane.send(&self.stream, blank.len());
            match self.stream.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
mod tests {
    use super::*;
    use crate::{Limits, serve};
    use axum::{Extension, Router, routing::get};
    use std::{io::Write, net::SocketAddr};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    const LENGTH: usize = 2 * STRETCH + 12_345;

    fn content() -> Vec<u8> {
        (0..LENGTH).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn file() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content()).unwrap();
        file
    }

    async fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let whole = |Extension(lane): Extension<Lane>| async {
            file_body(Some(lane), file(), 0, LENGTH as u64)
        };
        let part = |Extension(lane): Extension<Lane>| async {
            file_body(Some(lane), file(), STRETCH as u64 - 7, 1_000)
        };
        let read = || async { file_body(None, file(), 5, LENGTH as u64 - 5) };
        let short = |Extension(lane): Extension<Lane>| async {
            file_body(Some(lane), file(), 0, LENGTH as u64 + 1)
        };
        let router = Router::new()
            .route("/whole", get(whole))
            .route("/part", get(part))
            .route("/read", get(read))
            .route("/short", get(short))
            .route("/word", get(async || "a word"));
        tokio::spawn(serve(listener, Limits::USUAL, router));
        address
    }

    /// The next answer's body.
    async fn answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok(body)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_and_words_come_in_the_order_they_were_asked_for() {
        let mut stream = TcpStream::connect(served().await).await.unwrap();
        // All asked at once: pieces and blanks of several answers stay together.
        let asked = ["/word", "/whole", "/part", "/word", "/read", "/whole", "/word"];
        for path in asked {
            let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
        }
        let content = content();
        for path in asked {
            let wanted = match path {
                "/word" => b"a word",
                "/whole" => &content[..],
                "/read" => &content[5..],
                _ => &content[STRETCH - 7..STRETCH + 993],
            };
            assert!(answer(&mut stream).await.unwrap() == wanted, "{path}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_length_is_told_of_a_head_and_what_comes_then_is_whole() {
        let mut stream = TcpStream::connect(served().await).await.unwrap();
        stream.write_all(b"HEAD /whole HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        stream.write_all(b"GET /part HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8(head).unwrap().contains(&format!("content-length: {LENGTH}")));
        assert_eq!(answer(&mut stream).await.unwrap(), content()[STRETCH - 7..STRETCH + 993]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_file_that_became_shorter_nothing_else_is_sent() {
        let mut stream = TcpStream::connect(served().await).await.unwrap();
        stream.write_all(b"GET /short HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        assert!(answer(&mut stream).await.is_err(), "the connection ends");
    }
}

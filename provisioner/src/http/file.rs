//! A file on disk as a response: by the kernel alone where the connection can.

use axum::{
    body::Body,
    extract::Request,
    http::{Method, header},
    response::Response,
};
use listener::{Lane, file_body};
use std::{fs::File, io, path::Path};
use tokio::task::spawn_blocking;
use tower_http::services::ServeFile;

/// What of a file a request asks for, its conditions and ranges weighed (RFC 9110 sections 13 and
/// 14).
pub(super) async fn response(path: &Path, request: Request) -> io::Result<Response> {
    let lane = request.extensions().get::<Lane>().cloned();
    let gets = request.method() == Method::GET;
    let served = ServeFile::new(path).try_call(request).await?;
    let stretch = stretch(&served).filter(|_| gets && served.status().is_success());
    let Some((offset, length)) = stretch else { return Ok(served.map(Body::new)) };
    let path = path.to_path_buf();
    let file = spawn_blocking(move || File::open(path)).await.map_err(io::Error::other)??;
    Ok(served.map(|_| file_body(lane, file, offset, length)))
}

/// Where the body begins in the file, and its length.
fn stretch<B>(response: &axum::http::Response<B>) -> Option<(u64, u64)> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let length = text(header::CONTENT_LENGTH)?.parse().ok()?;
    let offset = match text(header::CONTENT_RANGE) {
        None => 0,
        Some(range) => range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()?,
    };
    Some((offset, length))
}

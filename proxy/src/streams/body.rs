//! Bodies between a stream and its pipe, the same towards clients and endpoints.

use std::io;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::pipe::Writer;
use super::text::{self, Framing};

/// Carries what a peer sends on a stream into a pipe, as `framing` says and no faster
/// than the pipe is read.
pub(super) async fn into_pipe(
    mut body: RecvStream,
    writer: &mut Writer,
    framing: Framing,
) -> io::Result<()> {
    let mut frame = Vec::new();
    let mut left = if let Framing::Length(length) = framing { Some(length) } else { None };
    while let Some(data) = body.data().await {
        let data = data.map_err(io::Error::other)?;
        if let Some(left) = &mut left {
            *left = left
                .checked_sub(data.len() as u64)
                .ok_or_else(|| io::Error::other("a longer body"))?;
        }
        if framing == Framing::Chunks {
            if data.is_empty() {
                continue;
            }
            frame.clear();
            text::chunk_size(data.len(), &mut frame);
            writer.write_all(&frame).await?;
            writer.write_all(&data).await?;
            writer.write_all(b"\r\n").await?;
        } else {
            writer.write_all(&data).await?;
        }
        body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
    }
    if left.is_some_and(|left| left > 0) {
        return Err(io::Error::other("half a body"));
    }
    if framing == Framing::Chunks {
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        frame.clear();
        text::last_chunk(trailers.as_ref(), &mut frame);
        writer.write_all(&frame).await?;
    }
    Ok(())
}

/// Sends as the peer's window allows.
pub(super) async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => {
                let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
                room.ok_or(Reason::STREAM_CLOSED)??
            }
            room => room,
        };
        stream.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

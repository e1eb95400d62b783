//! Takes a request's body in, before the request has a place among those under way: whoever sends
//! slowly keeps nobody else out.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::{Problem, body::BODY_BYTES_MAX};

/// How fast a body has to come.
#[derive(Clone, Copy, Debug)]
pub struct BodySettings {
    /// How long all of it may take.
    pub timeout: Duration,
    /// What a lost packet or two cost a client that has a bad line.
    pub grace: Duration,
    /// After that, so many bytes a second at least.
    pub bytes_per_s_min: u32,
}

impl Default for BodySettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            grace: Duration::from_secs(3),
            bytes_per_s_min: 512,
        }
    }
}

impl BodySettings {
    /// Until when more has to come than the bytes that are there.
    fn due(&self, started: Instant, received: usize) -> Instant {
        let bytes = u32::try_from(received).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1).saturating_mul(bytes) / self.bytes_per_s_min.max(1);
        started + self.timeout.min(self.grace.saturating_add(earned))
    }
}

pub(super) async fn receive(mut body: Body, settings: BodySettings) -> Result<Bytes, Problem> {
    let started = Instant::now();
    // Nearly every body comes in one piece, which is taken as it is.
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    loop {
        let received = first.len() + rest.len();
        match timeout_at(settings.due(started, received), body.frame()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Problem::new(400, "body-incomplete", "The body broke off.").closing());
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if received + data.len() > BODY_BYTES_MAX {
                    return Err(too_large());
                }
                if first.is_empty() {
                    first = data;
                } else {
                    rest.extend_from_slice(&data);
                }
            }
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

fn too_slow() -> Problem {
    let detail = "The body did not come in time. Nothing was done; send the request again.";
    Problem::new(408, "body-too-slow", detail).closing()
}

pub(super) fn too_large() -> Problem {
    let detail = format!("A body has at most {BODY_BYTES_MAX} bytes.");
    Problem::new(413, "body-too-large", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_has_to_come_at_a_rate_and_to_an_end() {
        let settings = BodySettings { bytes_per_s_min: 500, ..BodySettings::default() };
        let started = Instant::now();
        let after = |received| settings.due(started, received) - started;
        assert_eq!(after(0), 3 * SECOND, "silence");
        assert_eq!(after(500), 4 * SECOND);
        assert_eq!(after(60_000), 10 * SECOND, "however much has come");
        let hasty = BodySettings { timeout: SECOND, ..settings };
        assert_eq!(hasty.due(started, 0) - started, SECOND);
    }

    /// Pieces of a body with the pause before each.
    fn dripping(pieces: Vec<(Duration, usize)>) -> Body {
        let stream = futures_util::stream::iter(pieces);
        Body::from_stream(futures_util::StreamExt::then(stream, async |(pause, bytes)| {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(vec![b' '; bytes])
        }))
    }

    #[tokio::test]
    async fn what_comes_in_pieces_is_put_together_and_what_drips_is_not_waited_for() {
        let pieces = dripping(vec![(Duration::ZERO, 1000); 3]);
        assert_eq!(receive(pieces, BodySettings::default()).await.unwrap().len(), 3000);
        let large = dripping(vec![(Duration::ZERO, 40_000); 2]);
        assert_eq!(receive(large, BodySettings::default()).await.unwrap_err().status(), 413);

        let hasty = BodySettings { grace: SECOND / 20, ..BodySettings::default() };
        let drops = dripping(vec![(SECOND / 50, 1); 1000]);
        assert_eq!(receive(drops, hasty).await.unwrap_err().status(), 408, "too slow");
        let short = BodySettings { timeout: SECOND / 10, ..BodySettings::default() };
        let endless = dripping(vec![(SECOND / 100, 600); 100]);
        assert_eq!(receive(endless, short).await.unwrap_err().status(), 408, "too long");
    }
}

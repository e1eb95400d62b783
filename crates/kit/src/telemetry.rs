//! Logs and metrics.

mod lines;

use std::{
    io::{Stderr, stderr},
    sync::OnceLock,
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, fmt, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

use self::lines::Lines;
use crate::config::{LogConfig, LogFormat};

/// The process's log lines.
static LINES: OnceLock<Lines<Stderr>> = OnceLock::new();

/// Starts logging, on stderr: JSON lines, or text for people. A line below a warning may wait some milliseconds for others to be written
/// with. Doing it again changes nothing.
pub fn init(log: &LogConfig) {
    let mut first = false;
    let lines = LINES.get_or_init(|| {
        first = true;
        Lines::new(stderr())
    });
    // The only failure is that logging has started already, as it has for every test but the first.
    let _ = subscriber(log, lines).try_init();
    if first {
        let named = std::thread::Builder::new().name("log".to_owned());
        if let Err(e) = named.spawn(|| lines.keep_writing()) {
            tracing::warn!(error = %e, "lines are written only when there are many");
        }
    }
    metrics_handle();
}

/// Writes what waits in the log, for the end of a process.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}

pub(crate) fn subscriber<W>(log: &LogConfig, to: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Settings that were loaded have a filter that can be read; a test's may not.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(false);
            Box::new(registry.with(lines.with_writer(to)))
        }
        LogFormat::Text => Box::new(registry.with(fmt::layer().with_target(false).with_writer(to))),
    }
}

/// How often histograms are drained. The recorder keeps every sample until then, scraped or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's metrics; the recorder is installed the first time.
pub fn metrics_handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder was installed first");
        }
        let kept = handle.clone();
        // A thread of its own: this may be called before there is a runtime, and it lives as long as the process.
        let upkeep = move || loop {
            std::thread::sleep(UPKEEP);
            kept.run_upkeep();
        };
        if let Err(e) = std::thread::Builder::new().name("metrics".to_owned()).spawn(upkeep) {
            tracing::warn!(error = %e, "metrics are drained only when they are read");
        }
        handle
    })
}

/// Says in the metrics which service this is, so that they say something from the start.
pub(crate) fn announce(service: &'static str) {
    metrics_handle();
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!("service_info", "service" => service, "version" => version).set(1.0);
}

fn recorder() -> metrics_exporter_prometheus::PrometheusRecorder {
    /// From a cached answer to the longest that a request may take, and beyond for what waits in a queue.
    const SECONDS: [f64; 16] = [
        0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
        60.0, 300.0,
    ];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .expect("there are buckets")
        .build_recorder()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: LogFormat) -> String {
        let (lines, log) = (Lines::default(), LogConfig { level: level.to_owned(), format });
        let to = lines.clone();
        tracing::subscriber::with_default(subscriber(&log, move || to.clone()), || {
            let span = tracing::info_span!("request", trace_id = "abc");
            let _entered = span.enter();
            tracing::info!(bill = 7, "paid\nnot a line of its own");
            tracing::debug!("too much to say");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_log_line_is_one_json_object() {
        let text = logged("info", LogFormat::Json);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["bill"]), (&"INFO".into(), &7.into()));
        assert_eq!(line["message"], "paid\nnot a line of its own");
        assert_eq!(line["spans"][0]["trace_id"], "abc");
        assert_eq!(logged("warn", LogFormat::Json), "");
        assert_eq!(logged("debug", LogFormat::Json).lines().count(), 2);
    }

    #[test]
    fn text_is_for_people() {
        let text = logged("info", LogFormat::Text);
        assert!(text.contains("INFO") && text.contains("paid"), "{text}");
    }

    #[test]
    fn seconds_have_buckets() {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("work_seconds").record(0.004);
            metrics::counter!("done_total").increment(2);
        });
        let text = recorder.handle().render();
        assert!(text.contains("work_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("work_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("done_total 2"), "{text}");
    }

    #[test]
    fn starting_twice_changes_nothing() {
        let log = LogConfig::default();
        init(&log);
        init(&log);
        assert!(std::ptr::eq(metrics_handle(), metrics_handle()));
    }
}

//! The notification service as an executable of its own.

fn main() -> std::process::ExitCode {
    hospital_kit::service::main("notification", hospital_notification::service)
}

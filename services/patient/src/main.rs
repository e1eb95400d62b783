//! The patient service as an executable of its own.

fn main() -> std::process::ExitCode {
    hospital_kit::service::main("patient", hospital_patient::service)
}

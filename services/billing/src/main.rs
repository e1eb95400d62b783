//! The billing service as an executable of its own.

fn main() -> std::process::ExitCode {
    hospital_kit::service::main("billing", hospital_billing::service)
}

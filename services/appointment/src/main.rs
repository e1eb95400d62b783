fn main() -> std::process::ExitCode {
    hospital_kit::service::main("appointment", hospital_appointment::service)
}

//! The executable `vr-operator`.

fn main() -> std::process::ExitCode {
    vr_operator::run::main()
}

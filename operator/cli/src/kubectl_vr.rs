//! The executable `kubectl-vr`: what `kubectl vr` runs.

fn main() -> std::process::ExitCode {
    vr::kubectl::main()
}

//! The executable `vr`. Also what every process that it starts runs, so that building this one binary is enough.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    vr::main()
}

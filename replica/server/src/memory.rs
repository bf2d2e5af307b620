//! How this process deals with memory that it has freed: it keeps it.
//!
//! A replica has its memory to itself, and what it frees (a batch, a page that a snapshot shared) it needs again a
//! moment later. Given back to the kernel in between, each page of it is cleared and mapped once more: 5 % of the CPU
//! time of a put. So the process stays as large as it once was; what its state may take is limited elsewhere.

use std::ffi::{c_int, c_long};

/// Milliseconds until freed memory goes back to the kernel; the library has a name for it in C only.
const PURGE_DELAY: c_int = libmimalloc_sys::mi_option_use_numa_nodes - 1;
const NEVER: c_long = -1;

/// From now on, unless the environment has `MIMALLOC_PURGE_DELAY`. To be called before there is a second thread.
pub(crate) fn keep_freed() {
    #[allow(unsafe_code, reason = "a setting of the allocator has no other way in")]
    // SAFETY: the option exists, any number is a value for it, and nobody reads it meanwhile.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, NEVER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "as above")]
    fn the_option_is_the_delay() {
        // SAFETY: reads a number.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "the default of no other option");
        keep_freed();
        assert_eq!(delay(), NEVER);
    }
}

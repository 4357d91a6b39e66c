//! `portmap-description` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| towline_fuzz::run_one("portmap-description", input));

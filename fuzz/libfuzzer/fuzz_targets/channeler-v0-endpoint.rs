//! `channeler-v0-endpoint` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| towline_fuzz::run_one("channeler-v0-endpoint", input));

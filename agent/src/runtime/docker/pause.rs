//! An image that needs nothing of the node: one static program of a few dozen bytes that sleeps for ever. The
//! network probe and the trial of an engine make containers of it, since no other image can be assumed to be there.

use super::labels;
use bollard::models::{ContainerCreateBody, HostConfig};
use longshore_common::ids::AgentId;
use std::collections::HashMap;

/// A container of `image`, of this agent, that may do nothing.
pub(super) fn container(agent: AgentId, image: &str, network: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec![PROGRAM.to_owned()]),
        labels: Some(HashMap::from([(labels::AGENT.to_owned(), agent.to_string())])),
        host_config: Some(HostConfig {
            network_mode: Some(network.to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            memory: Some(16 << 20),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The image as a tar archive, for the engine's import. `None`: not known for this processor.
pub(super) fn archive() -> Option<Vec<u8>> {
    let program = match std::env::consts::ARCH {
        "x86_64" => elf(62, &X86_64),
        "aarch64" => elf(183, &AARCH64),
        _ => return None,
    };
    Some(tar(PROGRAM.trim_start_matches('/'), &program))
}

const PROGRAM: &str = "/pause";

/// `again: mov eax, 34 (pause); syscall; jmp again`
const X86_64: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// `again: x0..x3 = 0; x8 = 73 (ppoll); svc 0; b again`
const AARCH64: [u8; 28] = [
    0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, //
    0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
];

/// Where the program is loaded: any page will do.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// A 64-bit little-endian ELF with one readable and executable segment: the whole file.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let length = HEADERS + code.len() as u64;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // Executable, machine, version.
    file.extend([2_u16, machine].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, no sections, no flags.
    file.extend([BASE + HEADERS, 64, 0].iter().flat_map(|n: &u64| n.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    // Sizes: this header, one program header, no section header.
    file.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    // Load, readable and executable.
    file.extend([1_u32, 5].iter().flat_map(|n| n.to_le_bytes()));
    // Offset, addresses, sizes, alignment.
    file.extend([0, BASE, BASE, length, length, 0x1000].iter().flat_map(|n: &u64| n.to_le_bytes()));
    file.extend_from_slice(code);
    file
}

/// An archive (ustar) of one executable file.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    // The checksum is taken with its own field as blanks.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    // Whole blocks, and two empty ones at the end.
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_a_program_whose_header_agrees_with_its_length() {
        let archive = archive().expect("this processor is known");
        assert_eq!((&archive[..5], archive.len() % 512), (&b"pause"[..], 0));
        assert_eq!(&archive[512..516], b"\x7fELF");
        let length = usize::from_str_radix(std::str::from_utf8(&archive[124..135]).expect("octal"), 8);
        let program = elf(62, &X86_64);
        let in_file = u64::from_le_bytes(program[96..104].try_into().expect("eight"));
        assert_eq!(in_file, program.len() as u64);
        assert!(length.expect("a number") > 120);
    }
}

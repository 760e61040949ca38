//! A raw disk from which a BIOS boots a Linux kernel: our own boot sector, then the kernel's parts
//! and its initramfs as they will lie in memory. No file system and no boot loader of others. Pure.
//!
//! For emulators that cannot be handed a kernel as QEMU can. The sector does what a boot loader of
//! the "old" kind does (Documentation/arch/x86/boot.rst of the kernel): it puts three pieces where
//! the table at its end says and jumps to the kernel's 16-bit entry. What the kernel's header must
//! be told is written into it here.

use std::ops::Range;

/// Bytes that the boot sector reads at a time, through a buffer at 64 KiB.
const CHUNK: usize = 32 << 10;
/// Where the kernel's 16-bit part goes. Its last KiB is the command line; its stack lies above.
const SETUP_AT: u32 = 0x9_0000;
/// The command line's place in that part.
const COMMAND_LINE: Range<usize> = CHUNK - 1024..CHUNK;
/// Where the rest of the kernel goes.
const KERNEL_AT: u32 = 0x10_0000;
/// Where the initramfs goes: above what a kernel needs while it unpacks itself.
const INITRAMFS_AT: u32 = 128 << 20;
/// The end of the memory that int 15h can be told to copy to.
const MEMORY_END: u32 = 512 << 20;

/// Bytes of a cylinder, as [`HEADS`] and [`SECTORS`] have it; a disk is whole cylinders.
pub const CYLINDER: usize = (HEADS * SECTORS * SECTOR as u32) as usize;
/// Heads of the disk.
pub const HEADS: u32 = 16;
/// Sectors of a track.
pub const SECTORS: u32 = 63;
const SECTOR: usize = 512;

/// Why no disk can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// Not a kernel, or one older than 2.6.31.
    #[error("no Linux kernel (bzImage, boot protocol 2.10 or later)")]
    NotAKernel,
    /// A piece has no room in the layout.
    #[error("{what} has {bytes} bytes; this layout has room for {room}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// How large.
        bytes: usize,
        /// How large it may be.
        room: usize,
    },
}

/// The disk.
pub fn build(kernel: &[u8], initramfs: &[u8], command_line: &str) -> Result<Vec<u8>, DiskError> {
    let fits = |what, bytes: usize, room: usize| {
        if bytes <= room { Ok(()) } else { Err(DiskError::TooLarge { what, bytes, room }) }
    };
    let header = Header::read(kernel).ok_or(DiskError::NotAKernel)?;
    let (setup, rest) = kernel.split_at_checked(header.setup).ok_or(DiskError::NotAKernel)?;
    fits("the kernel's 16-bit part", setup.len(), COMMAND_LINE.start)?;
    fits("the kernel", rest.len(), (INITRAMFS_AT - KERNEL_AT) as usize)?;
    fits("the unpacked kernel", header.unpacked_end, INITRAMFS_AT as usize)?;
    fits("the initramfs", initramfs.len(), (MEMORY_END - INITRAMFS_AT) as usize)?;
    // It ends with a zero.
    fits("the command line", command_line.len(), COMMAND_LINE.len() - 1)?;

    let mut setup = setup.to_vec();
    setup.resize(CHUNK, 0);
    put(&mut setup, TYPE_OF_LOADER, &[0xff]);
    setup[LOADFLAGS] |= CAN_USE_HEAP;
    // Counted from the part's beginning, less the 512 bytes that the protocol wants off.
    put(&mut setup, HEAP_END, &(COMMAND_LINE.start as u16 - 0x200).to_le_bytes());
    put(&mut setup, INITRAMFS, &INITRAMFS_AT.to_le_bytes());
    put(&mut setup, INITRAMFS_LEN, &(initramfs.len() as u32).to_le_bytes());
    let at = SETUP_AT + COMMAND_LINE.start as u32;
    put(&mut setup, COMMAND_LINE_AT, &at.to_le_bytes());
    put(&mut setup, COMMAND_LINE.start, command_line.as_bytes());

    let mut disk = BOOT_SECTOR.to_vec();
    let pieces = [(SETUP_AT, setup.as_slice()), (KERNEL_AT, rest), (INITRAMFS_AT, initramfs)];
    for (at, piece) in pieces {
        disk.extend(at.to_le_bytes());
        // Below 2^16, as each has less than 512 MiB.
        disk.extend((piece.len().div_ceil(CHUNK) as u16).to_le_bytes());
    }
    // A row of no chunks ends the table.
    disk.resize(SECTOR - 2, 0);
    disk.extend([0x55, 0xaa]);
    for (_, piece) in pieces {
        disk.extend_from_slice(piece);
        let read = (disk.len() - SECTOR).next_multiple_of(CHUNK) + SECTOR;
        disk.resize(read, 0);
    }
    disk.resize(disk.len().next_multiple_of(CYLINDER), 0);
    Ok(disk)
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

// Fields of the kernel's header, by their offset in its file.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const INITRAMFS: usize = 0x218;
const INITRAMFS_LEN: usize = 0x21c;
const HEAP_END: usize = 0x224;
const COMMAND_LINE_AT: usize = 0x228;
const PREFERRED_AT: usize = 0x258;
const UNPACKED_LEN: usize = 0x260;
/// Of [`LOADFLAGS`]: the kernel's second part goes to 1 MiB.
const LOADED_HIGH: u8 = 1;
/// Of [`LOADFLAGS`]: [`HEAP_END`] is valid.
const CAN_USE_HEAP: u8 = 0x80;

/// What a kernel says of itself.
struct Header {
    /// Bytes of the 16-bit part.
    setup: usize,
    /// The end of the memory that it needs before it has read its map of memory.
    unpacked_end: usize,
}

impl Header {
    fn read(kernel: &[u8]) -> Option<Self> {
        let number = |at: usize, bytes: usize| {
            let field = kernel.get(at..at + bytes)?;
            field.iter().rev().try_fold(0usize, |all, byte| {
                all.checked_mul(256).map(|all| all | usize::from(*byte))
            })
        };
        let is_kernel = kernel.get(MAGIC..MAGIC + 4)? == b"HdrS"
            && number(VERSION, 2)? >= 0x20a
            && kernel.get(LOADFLAGS)? & LOADED_HIGH != 0;
        // Zero means four, for the sake of the very old.
        let sectors = match number(SETUP_SECTORS, 1)? {
            0 => 4,
            sectors => sectors,
        };
        let unpacked_end = number(PREFERRED_AT, 8)?.checked_add(number(UNPACKED_LEN, 4)?)?;
        is_kernel.then_some(Self { setup: (1 + sectors) * SECTOR, unpacked_end })
    }
}

/// Runs at 0x7c00 in 16-bit mode. Behind it in the sector stands the table of pieces, in the order
/// in which they lie on the disk: where to (32 bits), and how many chunks (16 bits).
#[rustfmt::skip]
const BOOT_SECTOR: &[u8] = &[
    0xfa,                                     // cli
    0x31, 0xc0,                               // xor ax, ax
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,       // mov ds, ax; mov es, ax; mov ss, ax
    0xbc, 0x00, 0x7c,                         // mov sp, 0x7c00
    0xfb, 0xfc,                               // sti; cld
    0xbd, 0xb4, 0x7c,                         // mov bp, 0x7cb4: the table
    0x3e, 0x66, 0x8b, 0x5e, 0x00,             // piece: mov ebx, [bp]: where to
    0x3e, 0x8b, 0x7e, 0x04,                   // mov di, [bp + 4]: how many chunks
    0x83, 0xc5, 0x06,                         // add bp, 6
    0x85, 0xff, 0x74, 0x3a,                   // test di, di; jz go
    0x52,                                     // chunk: push dx: the disk's number, from the BIOS
    0xb4, 0x42, 0xbe, 0x74, 0x7c, 0xcd, 0x13, // int 13h, ah = 42h: read by the packet
    0x72, 0x46,                               // jc fail
    0x66, 0x83, 0x06, 0x7c, 0x7c, 0x40,       // the packet's sector += 64
    0x66, 0x89, 0xd8,                         // mov eax, ebx
    0xa3, 0x9e, 0x7c,                         // the target's base, in its three parts
    0x66, 0xc1, 0xe8, 0x10,
    0xa2, 0xa0, 0x7c, 0x88, 0x26, 0xa3, 0x7c,
    0xb4, 0x87, 0xb9, 0x00, 0x40,             // int 15h, ah = 87h: copy 0x4000 words
    0xbe, 0x84, 0x7c, 0xcd, 0x15,
    0x72, 0x23,                               // jc fail
    0x66, 0x81, 0xc3, 0x00, 0x80, 0x00, 0x00, // add ebx, 0x8000
    0x5a,                                     // pop dx
    0x4f, 0x74, 0xb8, 0xeb, 0xc6,             // dec di; jz piece; jmp chunk
    0xb8, 0x00, 0x90,                         // go: mov ax, 0x9000, and all segments
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8,
    0xfa, 0x8e, 0xd0, 0xbc, 0x00, 0xf0,       // cli; mov ss, ax; mov sp, 0xf000
    0xea, 0x00, 0x00, 0x20, 0x90,             // jmp 9020:0
    0xf4, 0xeb, 0xfd,                         // fail: hlt, for ever
    0x10, 0x00, 0x40, 0x00,                   // 0x7c74: the packet: 64 sectors
    0x00, 0x00, 0x00, 0x10,                   // to 1000:0
    0x01, 0, 0, 0, 0, 0, 0, 0,                // from sector 1
    0, 0, 0, 0, 0, 0, 0, 0,                   // 0x7c84: the copy's segments
    0, 0, 0, 0, 0, 0, 0, 0,
    0xff, 0xff, 0x00, 0x00, 0x01, 0x93, 0, 0, // from 0x10000
    0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0, 0, // to where the code says
    0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a kernel, with four sectors of setup, and `rest` bytes of sevens.
    fn kernel(rest: usize) -> Vec<u8> {
        let mut kernel = vec![0; 5 * SECTOR];
        kernel.resize(5 * SECTOR + rest, 7);
        put(&mut kernel, MAGIC, b"HdrS");
        put(&mut kernel, VERSION, &[0x0f, 2]);
        put(&mut kernel, LOADFLAGS, &[LOADED_HIGH]);
        put(&mut kernel, PREFERRED_AT, &(16u64 << 20).to_le_bytes());
        put(&mut kernel, UNPACKED_LEN, &(58u32 << 20).to_le_bytes());
        kernel
    }

    #[test]
    fn the_boot_sector_has_its_parts_where_its_code_looks_for_them() {
        assert_eq!(BOOT_SECTOR.len(), 0xb4);
        assert_eq!(BOOT_SECTOR[0x74..0x7d], [0x10, 0, 0x40, 0, 0, 0, 0, 0x10, 1]);
        assert_eq!(BOOT_SECTOR[0x94..0x9a], [0xff, 0xff, 0, 0, 1, 0x93]);
        assert_eq!(BOOT_SECTOR[0x9c..0xa4], [0xff, 0xff, 0, 0, 0, 0x93, 0, 0]);
        assert_eq!(BOOT_SECTOR[0x5b], 0xb8);
        assert_eq!(BOOT_SECTOR[0x71], 0xf4);
    }

    #[test]
    fn the_pieces_lie_in_whole_chunks_behind_the_sector_that_counts_them() {
        let disk = build(&kernel(CHUNK + 1), &[9; 10], "console=ttyS0").unwrap();
        assert_eq!(disk.len() % CYLINDER, 0);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        let rows = [[0, 0, 9, 0, 1, 0], [0, 0, 0x10, 0, 2, 0], [0, 0, 0, 8, 1, 0], [0; 6]];
        assert_eq!(disk[0xb4..0xb4 + 24], rows.concat());
        let setup = &disk[SECTOR..SECTOR + CHUNK];
        assert_eq!(setup[INITRAMFS_LEN..INITRAMFS_LEN + 4], [10, 0, 0, 0]);
        assert!(setup[COMMAND_LINE].starts_with(b"console=ttyS0\0"));
        assert_eq!(disk[SECTOR + CHUNK..][..CHUNK + 2], [[7; CHUNK + 1].as_slice(), &[0]].concat());
        assert_eq!(disk[SECTOR + 3 * CHUNK..][..11], [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0]);
    }

    #[test]
    fn what_is_no_kernel_or_too_large_is_refused() {
        assert_eq!(build(b"MZ", &[], ""), Err(DiskError::NotAKernel));
        let mut old = kernel(1);
        old[VERSION] = 9;
        assert_eq!(build(&old, &[], ""), Err(DiskError::NotAKernel));
        let mut short = kernel(0);
        short[SETUP_SECTORS] = 5;
        assert_eq!(build(&short, &[], ""), Err(DiskError::NotAKernel));
        let long = build(&kernel(1), &[], &"x".repeat(1024)).unwrap_err();
        assert!(long.to_string().contains("command line"), "{long}");
        let mut large = kernel(1);
        put(&mut large, UNPACKED_LEN, &(113u32 << 20).to_le_bytes());
        assert!(build(&large, &[], "").unwrap_err().to_string().contains("unpacked"));
    }

    proptest::proptest! {
        #[test]
        fn no_kernel_makes_it_panic(at in MAGIC..0x270, byte: u8, length in 0usize..4_000) {
            let mut kernel = kernel(1_440);
            kernel[at] = byte;
            kernel.truncate(length);
            let _ = build(&kernel, &[], "");
        }
    }
}

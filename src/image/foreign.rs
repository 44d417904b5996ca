//! Formats that people take for a disk image, recognised by their first bytes, and what to do with them.

/// Names the format that `head`, the first bytes of a file, belongs to, and what to do about it: the end of the sentence "it is …".
/// `None` for everything unknown. 1 KiB is enough.
pub fn recognise(head: &[u8]) -> Option<&'static str> {
    const SIGNATURES: &[(usize, &[u8], &str)] = &[
        (0, b"\x1f\x8b", "compressed with gzip; unpack it first: gunzip -k"),
        (0, b"\xfd7zXZ\0", "compressed with xz; unpack it first: xz -dk"),
        (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first: zstd -d"),
        (0, b"BZh", "compressed with bzip2; unpack it first: bunzip2 -k"),
        (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
        (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
        (0, b"QFI\xfb", "a qcow2 image; convert it first: qemu-img convert -O raw"),
        (0, b"KDMV", "a VMDK image; convert it first: qemu-img convert -O raw"),
        (0, b"# Disk DescriptorFile", "a VMDK descriptor; convert it first: qemu-img convert -O raw"),
        (0, b"vhdxfile", "a VHDX image; convert it first: qemu-img convert -O raw"),
        (0, b"conectix", "a VHD image; convert it first: qemu-img convert -O raw"),
        (0x40, b"\x7f\x10\xda\xbe", "a VirtualBox image; convert it first: qemu-img convert -O raw"),
        (0, b"EVF\x09\x0d\x0a\xff\0", "an EnCase (EWF) image; show it as a raw one first: ewfmount"),
        (0, b"AFF10\r\n\0", "an AFF image; convert it first: affconvert -r"),
        (0, b"LUKS\xba\xbe", "encrypted (LUKS); unlock it first: cryptsetup open --readonly"),
        (512, b"LABELONE", "an LVM physical volume; activate its volumes (vgchange -ay) and give one of them"),
        (0, b"XFSB", "an XFS filesystem, which is not supported"),
        (3, b"NTFS    ", "an NTFS filesystem, which is not supported"),
        (0, b"hsqs", "a squashfs filesystem, which has no deleted files"),
    ];
    SIGNATURES.iter().find(|(at, bytes, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes))).map(|(_, _, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::recognise;

    #[test]
    fn signatures_are_found_where_they_belong_and_nowhere_else() {
        assert!(recognise(b"QFI\xfb\0\0\0\x03").unwrap().contains("qemu-img"));
        let mut lvm = [0; 1024];
        lvm[512..520].copy_from_slice(b"LABELONE");
        assert!(recognise(&lvm).unwrap().contains("LVM"));
        assert_eq!(recognise(&[0; 1024]), None);
        assert_eq!(recognise(b"xQFI\xfb"), None);
        assert_eq!(recognise(b""), None);
    }
}

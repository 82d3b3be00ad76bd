// Package keys keeps the keys that tapes are encrypted with.
//
// # Files
//
// Both are in the directory of a server's configuration, both lists, indented by
// two spaces:
//
//	tape-encryption-keys.json        for its owner alone: fingerprint and key,
//	                                 64 hexadecimal digits. What drives need
//	tape-encryption-key-config.json  key files (package keyfile), each under its
//	                                 password. What is written to tapes, so that
//	                                 who knows the password can read them anywhere
//
// A key that is in the second list only cannot be used until its password is given
// again ([Store.Import]). A fingerprint that does not fit its key is an error, for
// all keys: somebody changed the file.
//
// # The key of a media set
//
// A drive gets PBKDF2-HMAC-SHA256(password = key, salt = the 16 bytes of the media
// set's uuid, 10 rounds), 32 bytes, so that no two sets share a key.
//
// # Errors
//
// repo.ErrNotFound is wrapped for keys that are not there, ErrExists for those that
// are, ErrFormat for files that cannot be understood; no error quotes a key. Those
// of passwords are keyfile's, those of changes confdir's. fs.ErrPermission comes
// from a process that may not read the first file.
//
// # Source
//
// proxmox-backup: src/tape/encryption_keys.rs,
// src/api2/config/tape_encryption_keys.rs, src/tape/drive/lto/.
package keys

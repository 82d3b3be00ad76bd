package names

// S3InUse is the key of the advisory marker of a store in a bucket.
const S3InUse = ".in-use"

// maxS3Key is the limit of the protocol, in bytes.
const maxS3Key = 1024

// S3Key returns the key of an object of a store. rel is the key inside the
// store: [ChunkPath], [BadChunkPath], [S3Content], [S3Namespace] or [S3InUse].
func S3Key(store, rel string) (string, error) {
	if err := CheckStore(store); err != nil {
		return "", err
	}
	key := store + "/" + rel
	if len(key) > maxS3Key {
		return "", refuse("object key", key, "at most 1024 bytes")
	}
	return key, nil
}

// S3Content returns the key, inside the store, of a file that belongs to a
// group or snapshot; path is its path relative to a store on disk.
func S3Content(path string) string { return ".cnt/" + path }

// S3Namespace returns the key, inside the store, of the empty object that
// makes a namespace exist.
func S3Namespace(ns Namespace) string { return S3Content(ns.join(".namespace")) }

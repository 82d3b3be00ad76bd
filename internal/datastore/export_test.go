package datastore

// ShareCodecs lets b use the encoders and decoders of a: tests that open a
// hundred thousand stores would spend their time making those.
func ShareCodecs(a, b *Store) { b.codecs = a.codecs }

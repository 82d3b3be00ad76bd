package fusefile

// OldMount chooses the way of kernels without fsmount.
func (o Options) OldMount(on bool) Options {
	o.oldMount = on
	return o
}

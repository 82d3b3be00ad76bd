package cli

import (
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/spf13/cobra"
)

// propertyFlags makes flags of what a section of a configuration file can say. The
// function returns what was given; an empty text removes a property.
func propertyFlags(cmd *cobra.Command, props []property.Property) func() property.Values {
	texts := map[string]*string{}
	lists := map[string]*[]string{}
	for _, p := range props {
		if p.Many {
			lists[p.Key] = cmd.Flags().StringArray(p.Key, nil, p.Help+"; can be given again")
		} else {
			texts[p.Key] = cmd.Flags().String(p.Key, "", p.Help)
		}
	}
	return func() property.Values {
		v := property.Values{}
		for key, text := range texts {
			if cmd.Flags().Changed(key) {
				v[key] = []string{*text}
				if *text == "" {
					v[key] = nil
				}
			}
		}
		for key, list := range lists {
			if cmd.Flags().Changed(key) {
				v[key] = *list
			}
		}
		return v
	}
}

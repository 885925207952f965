package patches

import "slices"

// PreImage is a file as a series expects to find it.
type PreImage struct {
	Path string
	// Blob is its blob id, maybe abbreviated; empty where the series creates the file.
	Blob string
}

// PreImages lists the files that a series changes and whose content it tells, by its
// index lines or by creating them, each as the first patch that touches it has it.
func (s Series) PreImages() []PreImage {
	var all []PreImage
	touched := map[string]bool{}
	for _, p := range s.Patches {
		for _, f := range p.Files {
			if f.IsNew && !touched[f.New] {
				all = append(all, PreImage{Path: f.New})
			}
			if !f.IsNew && f.PreImage != "" && !touched[f.Old] {
				all = append(all, PreImage{f.Old, f.PreImage})
			}
			touched[f.Old], touched[f.New] = true, true
		}
	}
	return all
}

// Paths lists the files that the series finds in the tree, without those that it creates.
func (s Series) Paths() []string {
	var all []string
	touched := map[string]bool{}
	for _, p := range s.Patches {
		for _, f := range p.Files {
			if !f.IsNew && !touched[f.Old] {
				all = append(all, f.Old)
			}
			touched[f.Old], touched[f.New] = true, true
		}
	}
	return all
}

// Mismatches is [Patch.Mismatches] for all patches, each on top of those before it.
func (s Series) Mismatches(read func(path string) ([]byte, error)) []Mismatch {
	t := tree{read: read, files: map[string]*image{}}
	var all []Mismatch
	for _, p := range s.Patches {
		all = append(all, t.patch(p)...)
	}
	return all
}

// Lacks lists the ids of prerequisites that are not among the series' own patches.
func (s Series) Lacks() []string {
	return slices.DeleteFunc(slices.Clone(s.Prerequisites), func(id string) bool {
		return slices.ContainsFunc(s.Patches, func(p Patch) bool { return p.ID() == id })
	})
}

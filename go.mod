module github.com/holdfast-backup/holdfast

go 1.26.0

// Package logv1 has the commands of the replicated logs, and what is kept of them on disk. All but this file is generated.
package logv1

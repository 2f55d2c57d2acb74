// Package actorv1 has what actors of different nodes send one another (docs/adr/0011). All but this file is generated.
package actorv1

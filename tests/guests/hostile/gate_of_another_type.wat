;; Imports a gate that is held, under another type than it has.
(component
  {{types}}
  (import "cantrip:guest/read-file@0.1.0" (instance $read-file
    (export "read" (func (param "path" string) (result string)))))
  {{libc}}
  (core func $read (canon lower (func $read-file "read") (memory $memory) (realloc $realloc)))
  (core instance $gate (export "read" (func $read)))
  (core module $main' (import "libc" "memory" (memory 1)) (import "gate" "read" (func (param i32 i32 i32)))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{run}}
)

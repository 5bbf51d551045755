  (import "cantrip:guest/read-file@0.1.0" (instance $read-file
    (alias outer 1 $error (type $error''))
    (export "error" (type $error (eq $error'')))
    (export "read" (func (param "path" string) (param "offset" (option u64)) (param "limit" (option u64))
      (result (result string (error $error)))))))
